"""Claim: with few labels, hints of a trained CNN beat those of an untrained one.

They leave 4.0 points fewer wrong answers with 10 labels of each digit (0.8 to 7.2), 3.3
points with 20 (2.7 to 3.8). With all labels, and beside the distillation loss, no gain
is shown for hints: -1 error saved (-15 to 12) of 142.

Features are the 1,568 numbers that a teacher's last layer is given. Hints are these
numbers standardised: less their mean over the images, divided by their deviation. An
extra layer on top of the student's hidden layer learns to predict them (mean squared
error), and is then thrown away.

Measured, few labels: three teachers (seeds 0 to 2) know the digits 0 to 4 only, and the
student is to read 5 to 9. Its hidden layer learns for 5 epochs from all training images
of 5 to 9, without labels. Then a logistic regression on this layer learns from 10 or 20
labels of each digit. For each teacher there are three draws of the labels, each with a
student's start of its own. The controls are a whole student that learns these labels
alone in 200 steps, a random hidden layer, hints of the teacher as it was before its
training, the teacher's soft labels of 0 to 4 (T = 4, alpha = 1), and a logistic
regression on the teacher's own features. What counts is the share of the test images of
5 to 9 that are read wrong. The teacher sees moved images of 0 to 4, no student does.
The regression is scikit-learn's, with its usual penalty. Nothing was chosen.

Measured, all labels: default teachers and students; the loss is the default one plus a
weight times the squared error of the hints. The weight is chosen among 0.01, 0.1 and 1
on 10,000 held-out training images, with one teacher and three students. Three teachers
(seeds 0 to 2) with three students each (seeds 0 to 2) then learn with hints of this
weight, and without. Errors are counted on the 10,000 test images.

Result, few labels: per cent wrong with 10 and with 20 labels of each digit, and points
saved against labels alone, with 95 % intervals over the teachers.
                               10 labels                  20 labels
    labels alone               19.5 (16.7 to 22.2)        15.1 (13.5 to 16.6)
    a random hidden layer      26.6, -7.2 (-11.3 to -3.1) 20.6, -5.5 (-9.1 to -1.9)
    hints of an untrained CNN  19.6, -0.1 (-3.7 to 3.4)   14.9, 0.2 (-2.1 to 2.5)
    hints                      15.6, 3.9 (-1.1 to 8.9)    11.6, 3.5 (0.7 to 6.2)
    soft labels of 0 to 4      13.9, 5.6 (5.2 to 6.0)     10.3, 4.7 (3.5 to 6.0)
    the teacher's features     8.5, 10.9 (9.8 to 12.0)    6.1, 9.0 (7.0 to 11.0)

Result, all labels: on the held-out images, the means of three students are 154.7 errors
without hints, 157.7 with weight 0.01, 158.3 with 0.1 and 172.0 with 1: none of the
weights helps, and the best is the smallest. Errors of 10,000 test images, students of
seeds 0 to 2:
    teacher            0                1                2
    without hints      149, 132, 157    133, 130, 141    147, 147, 146
    weight 0.01        144, 139, 153    144, 136, 147    141, 138, 153
Saved: -1.4 (-15.1 to 12.2), over the teachers.

Not shown: what hints are worth to other networks. Here teacher and student are of
different kinds, and the student has a single hidden layer. With 10 labels it is not
shown that hints are better than labels alone, which is another way of learning: a whole
network instead of a regression, without the unlabelled images. Nor that hints are worth
their trouble: the means of soft labels are better, and those are simpler. With all
labels, the learning rate was not chosen anew for hints.

Seconds: 242 for few labels and 936 for all, on one core of an AMD EPYC (Zen 4) that had
other work to do.

Source: Romero et al. (2015), FitNets, arXiv:1412.6550. In the table of Tian et al.
(2020), arXiv:1910.10699, for networks of different kinds on CIFAR-100, hints stay below
plain distillation in all six pairs.
"""

import numpy as np
import torch
import torch.nn.functional as F
from common import (
    SEEDS,
    count_errors,
    hold_out,
    interval,
    load_mnist,
    new_teacher,
    three_students,
    train_with,
)
from sklearn.linear_model import LogisticRegression
from torch import nn

from kd_mnist import DistillationLoss, StudentMLP, TeacherCNN, predict, train


def feature_layers(cnn):
    """All of a TeacherCNN but its last layer: images to features (N, 1568)."""
    first = cnn.conv1, nn.MaxPool2d(2), nn.ReLU()
    second = cnn.conv2, nn.MaxPool2d(2), nn.ReLU()
    return nn.Sequential(*first, *second, nn.Flatten())


def hidden_layer(student):
    """The first layers of a StudentMLP: images to its hidden units (N, 128)."""
    flatten, linear, relu, _ = student
    return nn.Sequential(flatten, linear, relu)


def hints(cnn, images):
    """The features (N, 1568), less their mean over the images, by their deviation."""
    features = predict(feature_layers(cnn), images)
    return (features - features.mean(0)) / (features.std(0) + 1e-3)


def squared_error(output, target, _):
    return F.mse_loss(output, target)


def learned_layer(targets, loss, seed):
    """A hidden layer that learned targets (N, K) of the images of 5 to 9."""
    torch.manual_seed(seed)
    layer = hidden_layer(StudentMLP())
    unlabelled = high_images, torch.zeros_like(high_labels)
    train(
        nn.Sequential(layer, nn.Linear(128, targets.shape[1])),
        unlabelled,
        unlabelled,
        epochs=5,
        teacher_logits=targets,
        distillation_loss=loss,
        seed=seed,
        verbose=False,
    )
    return layer


def labels_alone(images, labels, seed):
    """A student that learns these few labels in 200 steps, each of them with all."""
    torch.manual_seed(seed)
    student = StudentMLP()

    def batch_loss(batch):
        return F.cross_entropy(student(images[batch]), labels[batch])

    optimizer = torch.optim.Adam(student.parameters(), lr=7e-3, fused=True)
    train_with(optimizer, batch_loss, len(images), 200, seed, one_cycle=True)
    return student


class WithHints(nn.Module):
    """A student, and a layer, thrown away later, that predicts the hints."""

    def __init__(self):
        super().__init__()
        self.student = StudentMLP()
        self.hidden = hidden_layer(self.student)
        self.hint = nn.Linear(128, 1568)

    def forward(self, images):
        hidden = self.hidden(images)
        return torch.cat([self.student[-1](hidden), self.hint(hidden)], 1)


def three_with_hints(teacher, weight, train_set, test_set):
    """Errors of three students that learn a teacher's hints too."""
    images = train_set[0]
    targets = torch.cat([predict(teacher, images), hints(teacher, images)], 1)
    default_loss = DistillationLoss()

    def loss_with_hints(output, target, labels):
        default = default_loss(output[:, :10], target[:, :10], labels)
        return default + weight * F.mse_loss(output[:, 10:], target[:, 10:])

    errors = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        both = WithHints()
        train(
            both,
            train_set,
            test_set,
            epochs=20,
            teacher_logits=targets,
            distillation_loss=loss_with_hints,
            seed=seed,
            verbose=False,
        )
        errors.append(count_errors(both.student, test_set))
    print(f"  hints, weight {weight}: {errors}, mean {np.mean(errors):.1f}", flush=True)
    return errors


train_set, test_set = load_mnist()

# Few labels: of 5 to 9, with teachers that know 0 to 4 only.
low, low_test = [(x[y < 5], y[y < 5]) for x, y in (train_set, test_set)]
high, high_test = [(x[y > 4], y[y > 4]) for x, y in (train_set, test_set)]
high_images, high_labels = high
found = {}  # for each number of labels and each way: % wrong, three draws a teacher
for seed in SEEDS:
    torch.manual_seed(seed)
    untrained = TeacherCNN()  # the teacher's own start
    teacher = new_teacher(seed, low, low_test)
    soft = DistillationLoss(temperature=4.0, alpha=1.0)
    answers = predict(teacher, high_images)[:, :5]
    hints_untrained = hints(untrained, high_images)
    hints_trained = hints(teacher, high_images)
    for draw in range(3 * seed, 3 * seed + 3):
        torch.manual_seed(draw)
        layers = {
            "a random hidden layer": hidden_layer(StudentMLP()),
            "hints, untrained": learned_layer(hints_untrained, squared_error, draw),
            "hints": learned_layer(hints_trained, squared_error, draw),
            "soft labels of 0 to 4": learned_layer(answers, soft, draw),
            "the teacher's own features": feature_layers(teacher),
        }
        torch.manual_seed(draw)
        order = torch.randperm(len(high_labels))
        for n in (10, 20):
            few = []
            for digit in (5, 6, 7, 8, 9):
                of_this_digit = order[high_labels[order] == digit]
                few.append(of_this_digit[:n])
            few = torch.cat(few)
            images, labels = high_images[few], high_labels[few]
            alone = labels_alone(images, labels, draw)
            wrong = 100 * count_errors(alone, high_test) / len(high_test[1])
            found.setdefault((n, "labels alone"), []).append(wrong)
            for name, layer in layers.items():
                linear = LogisticRegression(max_iter=2000)
                linear.fit(predict(layer, images), labels)
                right = linear.score(predict(layer, high_test[0]), high_test[1])
                found.setdefault((n, name), []).append(100 - 100 * right)
by_teacher = {key: np.reshape(values, (3, 3)).mean(1) for key, values in found.items()}
for (n, name), wrong in by_teacher.items():
    saved = by_teacher[n, "labels alone"] - wrong
    print(f"{n} labels, {name}: wrong, %: {interval(wrong)}; saved {interval(saved)}")
for n in (10, 20):
    saved = by_teacher[n, "hints, untrained"] - by_teacher[n, "hints"]
    print(f"{n} labels: the CNN's training saves {interval(saved)} points", flush=True)

# All labels: hints beside the default loss. Their weight is chosen on held-out images.
rest, held_out = hold_out(train_set)
print("all labels, on held-out training images:")
teacher = new_teacher(0, rest, held_out)
three_students("no hints", rest, held_out, teacher_logits=predict(teacher, rest[0]))
errors = {}
for weight in (0.01, 0.1, 1.0):
    errors[weight] = np.mean(three_with_hints(teacher, weight, rest, held_out))
best = min(errors, key=errors.get)
print(f"all labels, on test images, with weight {best}:")
saved = []
for seed in SEEDS:
    teacher = new_teacher(seed, train_set, test_set)
    logits = predict(teacher, train_set[0])
    without = three_students("no hints", train_set, test_set, teacher_logits=logits)
    with_hints = three_with_hints(teacher, best, train_set, test_set)
    saved.append(np.mean(without) - np.mean(with_hints))
print(f"hints of weight {best}: saved {interval(saved)} errors")
