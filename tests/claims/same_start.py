"""Claim: outputs that mean nothing teach digits, if student and teacher start alike.

On noise, and through three such outputs, the student learns to read 77 % of the test
digits (70 to 85; with torch's own first weights 59 %, 36 to 83) if it started from its
teacher's first weights, and 9 % (8 to 10; 11 %, 6 to 15), no more than by guessing, if
it did not.

Measured: five seeds. A network 784-256-256-13 has ten outputs for the digits and three
that mean nothing. The teacher learns MNIST with the ten, for 5 epochs; the three get no
loss. The student learns only the teacher's three outputs (KL at T = 1), for 20 epochs,
on 60,000 images of uniform noise. Then its ten outputs read MNIST's test digits. Pixels
go from -1 to 1. Adam at 3e-4 and batches of 1,024 are as published. Four students: one
starts from the teacher's first weights, one from others, one shares only the last layer
with the teacher's start, one only the hidden layers. The student's number of epochs was
chosen in an earlier trial by another program, which looked at test images; nothing else
was. The seeds differ in first weights and noise; all share the order of the images.

Result: per cent of the test digits read right; 95 % intervals over the five seeds. The
first weights are normal with deviation 1 / sqrt(inputs), as published, or torch's own.
                            normal weights            torch's own
    teacher                 94.3 (94.0 to 94.6)       92.8 (92.5 to 93.1)
    never trained            8.6 ( 4.4 to 12.7)        9.8 ( 7.6 to 12.0)
    same start              77.4 (69.5 to 85.3)       59.5 (36.3 to 82.6)
    another start            9.1 ( 8.0 to 10.2)       10.6 ( 6.5 to 14.7)
    same last layer         13.0 ( 6.9 to 19.1)       10.8 ( 8.2 to 13.4)
    same hidden layers       8.6 ( 6.1 to 11.1)       12.1 ( 7.4 to 16.8)
The five students of the same start: 84.1, 74.9, 67.9, 78.5, 81.6 and 81.6, 30.4, 57.4,
61.2, 66.8.

Why: if teacher and student start from the same weights, and the teacher has made one
small step, then a small step of the student towards any output of the teacher, on any
image, does not raise the student's loss on the teacher's task (the paper proves this).
Here both make many steps; how near the weights come to the teacher's was not measured.

Not shown: anything about networks of different kinds, such as the CNN and the MLP of
the script, or about language models. With the same last layer, one of the five seeds
reads 21 %; whether a common last layer helps at other settings, as has been reported,
was not tried.

Seconds: 1,350 on one core of an AMD EPYC (Zen 4) that had other work to do.

Source: Cloud et al. (2025), Subliminal Learning, arXiv:2507.14805, section 6, where
over 50 % are read right; arXiv:2605.23645 reports settings where compatible last layers
are enough.
"""

import copy

import torch
import torch.nn.functional as F
from common import interval, load_mnist, train_with
from matplotlib.figure import Figure
from torch import nn

from kd_mnist import DistillationLoss, accuracy, predict

SEEDS = range(5)


class Outputs(nn.Module):
    """A network of which only the outputs ``first`` to ``last - 1`` are used."""

    def __init__(self, network, first, last):
        super().__init__()
        self.network = network
        self.first = first
        self.last = last

    def forward(self, images):
        return self.network(images)[:, self.first : self.last]


def new_network(seed, as_published):
    """784-256-256-13: ten outputs for the digits, and three that mean nothing.

    As published: normal weights, deviation 1 / sqrt(inputs), biases 0; or torch's own.
    """
    torch.manual_seed(seed)
    hidden = nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()
    network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, 13))
    for layer in network:
        if isinstance(layer, nn.Linear) and as_published:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    return network


def learn(network, train_set, epochs, teacher_logits=None):
    """Train as published: Adam at 3e-4, batches of 1,024; KL at T = 1."""
    images, labels = train_set
    loss = DistillationLoss(temperature=1.0, alpha=1.0)

    def batch_loss(batch):
        logits = network(images[batch])
        if teacher_logits is None:
            return F.cross_entropy(logits, labels[batch])
        return loss(logits, teacher_logits[batch], labels[batch])

    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    train_with(optimizer, batch_loss, len(images), epochs, seed=0, batch_size=1024)


def percent_right(network):
    """Per cent of the test digits that the ten outputs for digits read right."""
    images, labels = test_set
    return 100 * accuracy(predict(Outputs(network, 0, 10), images), labels)


(images, labels), (test_images, test_labels) = load_mnist()
train_set = 2 * images - 1, labels  # pixels from -1 to 1
test_set = 2 * test_images - 1, test_labels
found = {}
for as_published in (True, False):
    start_name = "normal weights" if as_published else "torch's start"
    for seed in SEEDS:
        start = new_network(seed, as_published)
        other = new_network(100 + seed, as_published)
        last_layer = copy.deepcopy(other)  # another start but for the last layer
        last_layer[5] = copy.deepcopy(start[5])
        hidden_layers = copy.deepcopy(start)  # another start but for the hidden layers
        hidden_layers[5] = copy.deepcopy(other[5])
        teacher = copy.deepcopy(start)
        learn(Outputs(teacher, 0, 10), train_set, epochs=5)
        percents = {
            "teacher": percent_right(teacher),
            "never trained": percent_right(start),
        }
        noise = 2 * torch.rand(images.shape) - 1
        noise_set = noise, torch.zeros_like(labels)  # the labels are not used
        answers = predict(Outputs(teacher, 10, 13), noise)  # the three outputs only
        for name, student in (
            ("same start", start),
            ("another start", other),
            ("same last layer", last_layer),
            ("same hidden layers", hidden_layers),
        ):
            student = copy.deepcopy(student)
            three = Outputs(student, 10, 13)
            learn(three, noise_set, epochs=20, teacher_logits=answers)
            percents[name] = percent_right(student)
        for name, percent in percents.items():
            found.setdefault((start_name, name), []).append(percent)
        shown = {name: round(percent, 1) for name, percent in percents.items()}
        print(f"{start_name}, seed {seed}: {shown}", flush=True)
for (start_name, name), values in found.items():
    print(f"{start_name}, {name}: {interval(values)}")

figure = Figure((7, 3), dpi=150, layout="constrained")
axes = figure.subplots()
rows = [name for start_name, name in found if start_name == "normal weights"]
for row, name in enumerate(rows):
    values = found["normal weights", name]
    axes.plot(values, [row] * len(values), "o", color="0.7", markeredgecolor="black")
axes.set_yticks(range(len(rows)), rows)
axes.invert_yaxis()
axes.axvline(10, color="0.5", linestyle="--")
axes.set(xlim=(0, 100), xlabel="test digits read right, % (dashed: guessing)")
axes.set_title("Taught on noise, through three outputs that mean nothing")
axes.grid(alpha=0.3)
figure.savefig("same_start.png")
