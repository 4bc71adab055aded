"""Claim: a student that never saw a digit learns to read 96 % of them (95 to 97).

It learns from the teacher's answers to 240,000 random strokes.

Measured: three teachers (seeds 0 to 2) with three default students each (seeds 0 to 2).
A student learns for 20 epochs, at T = 4 and alpha = 1, from one teacher's answers to
60,000 random pictures; it sees no digit and no label. Then it reads the test digits.
The kinds of pictures: white noise (each pixel from 0 to 1, or normally distributed);
blobs, which are smooth random fields cut off at 0 and 1; and strokes, which are lines
where a smooth field is near 0, faded out where a second field is negative. The control
learns a teacher's answers to the same strokes, but this teacher was not trained. With
four times as many strokes a student makes four times as many steps, too. The kinds of
pictures, and the numbers in their recipes, were chosen earlier, on 10,000 held-out
training images with another teacher; T and alpha were taken over from there. The
numbers are those after the last epoch. random_strokes.png shows, of 60,000 other
strokes, the one that the last of the teachers most surely calls a 0, a 1, and so on.

Result: per cent of the test digits read right; 95 % intervals over the teachers.
    noise from 0 to 1                16.2 (10.9 to 21.4)
    normal noise                     19.9 (   0 to 40.4)
    blobs                            80.5 (76.6 to 84.3)
    strokes                          93.3 (91.4 to 95.3)
    strokes, teacher not trained     10.8 ( 8.1 to 13.5)
    four times as many strokes       95.9 (95.0 to 96.9)

Not shown: that any pictures would do. Strokes resemble digits in being lines, in their
thickness, and in leaving much of the paper empty. As to noise, the teacher is a CNN,
and the student an MLP with a start of its own; same_start.py shows a case in which
noise does teach, so nothing follows from the two rows of noise about noise in general.

Seconds: 1,830 on one core of an AMD EPYC (Zen 4) that had other work to do.

Source: distillation without the training data is Nayak et al. (2019), arXiv:1905.08114,
who make their pictures from the teacher, and Asano and Saeed (2023), arXiv:2112.00725,
who cut them out of a single photograph.
"""

import numpy as np
import torch
import torch.nn.functional as F
from common import SEEDS, interval, load_mnist, new_teacher
from matplotlib.figure import Figure

from kd_mnist import DistillationLoss, StudentMLP, TeacherCNN, predict, train


def noise(n):
    return torch.rand(n, 1, 28, 28)


def normal_noise(n):
    return torch.randn(n, 1, 28, 28)


def field(n, grid):
    """Smooth random pictures (n, 1, 28, 28): grid x grid random numbers, enlarged."""
    return F.interpolate(torch.randn(n, 1, grid, grid), size=(28, 28), mode="bicubic")


def blobs(n):
    parts = [3 * field(n // 6, grid) - 1 for grid in (5, 6, 7, 8, 9, 10)]
    return torch.cat(parts).clamp(0, 1)


def strokes(n):
    parts = []
    for grid in (4, 5, 6, 7):
        lines = 1.5 - field(n // 4, grid).abs() / 0.35
        ink = 3 * field(n // 4, 3)
        parts.append(lines.clamp(0, 1) * ink.clamp(0, 1))
    return torch.cat(parts)


train_set, test_set = load_mnist()
n = len(train_set[1])
curves = {}  # for each kind, teacher and student: % read right after each epoch
for seed in SEEDS:
    torch.manual_seed(100 + seed)
    untrained = TeacherCNN()
    teacher = new_teacher(seed, train_set, test_set)
    for kind, answering, new_pictures, number in (
        ("noise from 0 to 1", teacher, noise, n),
        ("normal noise", teacher, normal_noise, n),
        ("blobs", teacher, blobs, n),
        ("strokes", teacher, strokes, n),
        ("strokes, teacher not trained", untrained, strokes, n),
        ("four times as many strokes", teacher, strokes, 4 * n),
    ):
        torch.manual_seed(200 + seed)  # other pictures for each teacher
        pictures = new_pictures(number)
        no_labels = torch.zeros(len(pictures), dtype=torch.int64)  # alpha is 1
        logits = predict(answering, pictures)
        found = []
        for student_seed in SEEDS:
            torch.manual_seed(student_seed)
            student = StudentMLP()
            history = train(
                student,
                (pictures, no_labels),
                test_set,
                epochs=20,
                teacher_logits=logits,
                distillation_loss=DistillationLoss(temperature=4.0, alpha=1.0),
                seed=student_seed,
                verbose=False,
            )
            found.append([100 * record["test_accuracy"] for record in history])
        curves.setdefault(kind, []).append(found)
        last = np.round([curve[-1] for curve in found], 1)
        print(f"  {kind}: read right, %: {last}", flush=True)
for kind, found in curves.items():
    last = np.array(found)[:, :, -1]  # (teachers, students)
    print(f"{kind}: read right, %: {interval(last.mean(1))}")

figure = Figure((7, 4.5), dpi=150, layout="constrained")
axes = figure.subplots()
for (kind, found), marker in zip(curves.items(), "osv^DP"):
    mean = np.mean(found, axis=(0, 1))
    axes.plot(range(1, len(mean) + 1), mean, marker=marker, label=kind)
axes.set(xlabel="epoch", xticks=(1, 5, 10, 15, 20))
axes.set(ylabel="test digits read right, %", ylim=(0, 100))
axes.set_title("Students that see random pictures instead of digits (means of nine)")
axes.legend(loc="center right")
axes.grid(alpha=0.3)
figure.savefig("never_seen_a_digit.png")

torch.manual_seed(0)
pictures = strokes(n)
p = predict(teacher, pictures).softmax(1)
figure = Figure((8, 3.6), dpi=150, layout="constrained")
for digit, axes in enumerate(figure.subplots(2, 5).flat):
    best = p[:, digit].argmax()
    axes.imshow(pictures[best, 0].numpy(), cmap="gray_r")
    axes.set(xticks=[], yticks=[], title=f"{digit} ({p[best, digit]:.0%})")
    print(f"the stroke most surely called a {digit}: p = {p[best, digit]:.3f}")
figure.suptitle("Random strokes that a teacher most surely calls a 0, a 1, ..., a 9")
figure.savefig("random_strokes.png")
