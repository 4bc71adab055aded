"""Claim: on held-out images no saving is shown at T = 1, at any alpha; at T = 2, 4 and
8 a saving is shown at each of four alphas, also at alpha = 1, where the student uses no
label.

Measured: three teachers (seeds 0 to 2) with three students each (seeds 0 to 2), for
each of twenty pairs of T and alpha. All learn from 50,000 training images; the errors
are those on the other 10,000. No test image is used: this is how to choose T and alpha.
At alpha = 1 the hard term of the loss has weight 0, so the student learns from the
teacher's answers alone. The teacher itself has learned from all 50,000 labels.

Result: errors of 10,000 held-out images, means of nine students. The three students
alone make 166, 185 and 184, mean 178.3; the teachers 77, 96 and 91.
    T                1       2       4       8      20
    alpha 0.1    180.9   164.0   152.3   152.7   151.6
    alpha 0.5    178.0   157.4   153.7   156.2   157.9
    alpha 0.9    182.1   158.4   149.4   165.2   170.8
    alpha 1      176.4   159.8   154.8   160.6   173.9
Errors saved, with 95 % intervals over the teachers:
             alpha 0.1        alpha 0.5        alpha 0.9        alpha 1
    T = 1    -2.6 (-9 to  4)   0.3 (-8 to  9)  -3.8 (-11 to 3)   1.9 (-15 to 19)
    T = 2    14.3 ( 8 to 21)  20.9 (15 to 27)  19.9 ( 6 to 34)  18.6 (  2 to 36)
    T = 4    26.0 (18 to 34)  24.7 (15 to 34)  28.9 ( 8 to 50)  23.6 ( 17 to 30)
    T = 8    25.7 (15 to 36)  22.1 (10 to 34)  13.1 ( 9 to 17)  17.8 (  6 to 30)
    T = 20   26.8 (10 to 44)  20.4 (12 to 29)   7.6 (-1 to 16)   4.4 (  1 to  8)

To recommend from it: T = 4. Its four means lie between 149 and 155, closer together
than their intervals are wide, and that of alpha = 1 is among them. At T = 20 the means
depend more on alpha: 152 at 0.1 and 174 at 1.

Not shown: that the best cell, T = 4 and alpha = 0.9, is better than most others; and
the mean of the best of twenty cells is too good. Of twenty 95 % intervals one misses
the truth on average, and those that end near 0 (T = 2 and T = 20 at alpha = 1) show
little. The three students alone, whose own interval is 152 to 205, are the same for all
cells; twelve students alone made 184 errors on such images. The learning rate was
chosen on these images, for the student alone. That no label is needed is not shown: the
teacher had them.

Seconds: about 2,300 on one core of an AMD EPYC (Zen 4) that had other work to do.

Source: Hinton, Vinyals and Dean (2015), arXiv:1503.02531, section 3: with 300 or more
units in each hidden layer all temperatures above 8 gave similar results, with 30 units
those from 2.5 to 4 were better.
"""

import numpy as np
import seaborn
from common import SEEDS, hold_out, interval, load_mnist, new_teacher, three_students
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kd_mnist import DistillationLoss, predict

TEMPERATURES = (1, 2, 4, 8, 20)
ALPHAS = (0.1, 0.5, 0.9, 1)

train_set, held_out = hold_out(load_mnist()[0])  # no test image is used
alone = np.mean(three_students("alone", train_set, held_out))
errors = np.zeros((len(SEEDS), len(ALPHAS), len(TEMPERATURES)))
for seed in SEEDS:
    teacher = new_teacher(seed, train_set, held_out)
    teacher_logits = predict(teacher, train_set[0])
    for row, alpha in enumerate(ALPHAS):
        for column, temperature in enumerate(TEMPERATURES):
            found = three_students(
                f"T = {temperature}, alpha = {alpha}",
                train_set,
                held_out,
                teacher_logits=teacher_logits,
                distillation_loss=DistillationLoss(temperature, alpha),
            )
            errors[seed, row, column] = np.mean(found)
mean = errors.mean(0)
print(f"mean over the teachers:\n{mean.round(1)}")
for row, alpha in enumerate(ALPHAS):
    for column, temperature in enumerate(TEMPERATURES):
        saved = alone - errors[:, row, column]
        print(f"T = {temperature}, alpha = {alpha}: saved {interval(saved)}")

figure = Figure((7, 4.6), dpi=150, layout="constrained")
axes = figure.subplots()
seaborn.heatmap(mean, annot=True, fmt=".0f", cmap="viridis_r", cbar=False, ax=axes)
best = np.unravel_index(mean.argmin(), mean.shape)
default = ALPHAS.index(0.5), TEMPERATURES.index(2)
for (row, column), name in ((default, "default"), (best, "lowest")):
    frame = Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=4)
    axes.add_patch(frame)
    axes.text(column + 0.5, row + 0.8, name, ha="center", weight="bold")
axes.set(xlabel="temperature", xticklabels=TEMPERATURES)
axes.set(ylabel="alpha (at 1, no label is used)", yticklabels=ALPHAS)
axes.set_title(f"errors on 10,000 held-out images (students alone: {alone:.0f})")
figure.savefig("temperature_and_alpha.png")
