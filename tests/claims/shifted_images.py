"""Claim: ..."""

import numpy as np
import seaborn
from common import SEEDS, interval, load_mnist, new_student, new_teacher
from matplotlib.figure import Figure

from kd_mnist import accuracy, predict, random_shift, shift

DIRECTIONS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
PIXELS = (0, 1, 2, 3, 4)


def percent_wrong(network):
    """Per cent wrong of all test images moved by 0 to 4 pixels, mean of 8 directions."""
    images, labels = test_set
    percent = []
    for n in PIXELS:
        wrong = []
        for down, right in DIRECTIONS if n > 0 else [(0, 0)]:
            logits = predict(network, shift(images, n * down, n * right))
            wrong.append(100 - 100 * accuracy(logits, labels))
        percent.append(np.mean(wrong))
    return percent


train_set, test_set = load_mnist()
curves = {"student alone": []}  # for each kind of network, its five values per seed
for seed in SEEDS:
    student = new_student(seed, train_set, test_set)
    curves["student alone"].append(percent_wrong(student))
for kind, transform in (("", random_shift), (", no moved images", None)):
    curves[f"teacher{kind}"] = []
    curves[f"student of the teacher{kind}"] = []
    for seed in SEEDS:
        teacher = new_teacher(seed, train_set, test_set, transform)
        curves[f"teacher{kind}"].append(percent_wrong(teacher))
        logits = predict(teacher, train_set[0])
        found = []
        for student_seed in SEEDS:
            student = new_student(
                student_seed, train_set, test_set, teacher_logits=logits
            )
            found.append(percent_wrong(student))
        curves[f"student of the teacher{kind}"].append(np.mean(found, axis=0))
for name, values in curves.items():
    for n, percent in zip(PIXELS, np.transpose(values)):
        print(f"{name}, {n} pixels: {interval(percent)}", flush=True)

figure = Figure((7, 4.5), dpi=150, layout="constrained")
axes = figure.subplots()
shown = {name: np.mean(values, axis=0) for name, values in curves.items()}
seaborn.lineplot(shown, markers=True, ax=axes)
axes.set(xlabel="pixels by which the test images are moved", xticks=PIXELS)
axes.set(ylabel="wrong answers, %", title="Nobody but the teacher saw moved images")
figure.savefig("shifted_images.png")
