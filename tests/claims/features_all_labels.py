"""Claim: with all labels, no gain is shown for hints of a teacher's features beside the
distillation loss: -1 error saved (-15 to 12) of 142.

Features are the 1,568 numbers that a teacher's last layer is given. Hints are these
numbers standardised: less their mean over the images, divided by their deviation. An
extra layer on top of the student's hidden layer learns to predict them (mean squared
error), and is then thrown away.

Measured: default teachers and students; the loss is the default one plus a weight times
the squared error of the hints. The weight is chosen among 0.01, 0.1 and 1 on 10,000
held-out training images, with one teacher and three students. Three teachers (seeds 0 to
2) with three students each (seeds 0 to 2) then learn with hints of this weight, and
without. Errors are counted on the 10,000 test images.

Result: on the held-out images, the means of three students are 154.7 errors without
hints, 157.7 with weight 0.01, 158.3 with 0.1 and 172.0 with 1: none of the weights helps,
and the best is the smallest. Errors of 10,000 test images, students of seeds 0 to 2:
    teacher            0                1                2
    without hints      149, 132, 157    133, 130, 141    147, 147, 146
    weight 0.01        144, 139, 153    144, 136, 147    141, 138, 153
Saved: -1.4 (-15.1 to 12.2), over the teachers.

Not shown: what hints are worth to other networks. Here teacher and student are of
different kinds, and the student has a single hidden layer. With hints, the learning rate
was not chosen anew.

Seconds: 936 on one core of an AMD EPYC (Zen 4) that had other work to do.

Source: Romero et al. (2015), FitNets, arXiv:1412.6550. In the table of Tian et al.
(2020), arXiv:1910.10699, for networks of different kinds on CIFAR-100, hints stay below
plain distillation in all six pairs.
"""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from common import (
    SEEDS,
    count_errors,
    hidden_layer,
    hints,
    interval,
    load_mnist,
    new_teacher,
    three_students,
)
from torch import nn

from kd_mnist import DistillationLoss, StudentMLP, hold_out, predict, train


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


def loss_with_hints(output, target, labels, weight):
    default = DistillationLoss()(output[:, :10], target[:, :10], labels)
    return default + weight * F.mse_loss(output[:, 10:], target[:, 10:])


def three_with_hints(teacher, weight, train_set, test_set):
    """Errors of three students that learn a teacher's hints too."""
    images = train_set[0]
    targets = torch.cat([predict(teacher, images), hints(teacher, images)], 1)
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
            distillation_loss=partial(loss_with_hints, weight=weight),
            seed=seed,
            verbose=False,
        )
        errors.append(count_errors(both.student, test_set))
    print(f"  hints, weight {weight}: {errors}, mean {np.mean(errors):.1f}", flush=True)
    return errors


train_set, test_set = load_mnist()
rest, held_out = hold_out(train_set, len(train_set[1]) // 6)
print("on held-out training images:")
teacher = new_teacher(0, rest, held_out)
three_students("no hints", rest, held_out, teacher_logits=predict(teacher, rest[0]))
errors = {}
for weight in (0.01, 0.1, 1.0):
    errors[weight] = np.mean(three_with_hints(teacher, weight, rest, held_out))
best = min(errors, key=errors.get)
print(f"on test images, with weight {best}:")
saved = []
for seed in SEEDS:
    teacher = new_teacher(seed, train_set, test_set)
    logits = predict(teacher, train_set[0])
    without = three_students("no hints", train_set, test_set, teacher_logits=logits)
    with_hints = three_with_hints(teacher, best, train_set, test_set)
    saved.append(np.mean(without) - np.mean(with_hints))
print(f"hints of weight {best}: saved {interval(saved)} errors")
