"""Claim: ..."""

import copy

import torch
from common import interval, load_mnist
from matplotlib.figure import Figure
from torch import nn

from kd_mnist import DistillationLoss, accuracy, predict, train

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

    As published: normal weights of deviation 1 / sqrt(inputs), biases 0; or torch's own.
    """
    torch.manual_seed(seed)
    hidden = nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()
    network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, 13))
    for layer in network:
        if isinstance(layer, nn.Linear) and as_published:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    return network


def learn(network, train_set, test_set, epochs, teacher_logits=None):
    """Train as published: Adam at 3e-4, batches of 1,024; KL at T = 1."""
    train(
        network,
        train_set,
        test_set,
        epochs=epochs,
        teacher_logits=teacher_logits,
        distillation_loss=DistillationLoss(temperature=1.0, alpha=1.0),
        batch_size=1024,
        optimizer=torch.optim.Adam(network.parameters(), lr=3e-4),
        verbose=False,
    )


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
        learn(Outputs(teacher, 0, 10), train_set, test_set, epochs=5)
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
            learn(three, noise_set, noise_set, epochs=20, teacher_logits=answers)
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
