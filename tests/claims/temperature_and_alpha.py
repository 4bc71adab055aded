"""Claim: ..."""

import numpy as np
import seaborn
from common import SEEDS, load_mnist, new_teacher, three_students
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kd_mnist import DistillationLoss, hold_out, predict

TEMPERATURES = (1, 2, 4, 8, 20)
ALPHAS = (0.1, 0.5, 0.9)

train_set, _ = load_mnist()  # no test image is used
train_set, held_out = hold_out(train_set, len(train_set[1]) // 6)
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
print(f"standard deviation over the teachers:\n{errors.std(0, ddof=1).round(1)}")

figure = Figure((7, 4), dpi=150, layout="constrained")
axes = figure.subplots()
seaborn.heatmap(mean, annot=True, fmt=".0f", cmap="viridis_r", cbar=False, ax=axes)
best = np.unravel_index(mean.argmin(), mean.shape)
for (row, column), name in (((1, 1), "default"), (best, "best")):
    frame = Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=4)
    axes.add_patch(frame)
    axes.text(column + 0.5, row + 0.8, name, ha="center", weight="bold")
axes.set(xlabel="temperature", xticklabels=TEMPERATURES)
axes.set(ylabel="alpha", yticklabels=ALPHAS)
axes.set_title(f"errors on 10,000 held-out images (students alone: {alone:.0f})")
figure.savefig("temperature_and_alpha.png")
