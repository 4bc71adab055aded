"""Claim: ..."""

import numpy as np
from common import interval, load_mnist
from matplotlib.figure import Figure

from kd_mnist import Settings, run_experiment

train_set, test_set = load_mnist()
found = {"teacher": [], "student alone": [], "student distilled": []}
moved = {"teacher": [], "student alone": [], "student distilled": []}
for seed in range(10):
    _, records = run_experiment(train_set, test_set, Settings(seed=seed))
    for record in records:
        found[record["network"]].append(record["errors"])
        moved[record["network"]].append(record["errors_moved"])
for name, errors in found.items():
    print(f"\n{name}: {errors}")
    print(f"  mean {np.mean(errors):.1f}, deviation {np.std(errors, ddof=1):.1f}")
    print(f"  moved one pixel down and right: mean {np.mean(moved[name]):.1f}")
saved = np.subtract(found["student alone"], found["student distilled"])
print(f"errors saved: {saved.tolist()}, mean {interval(saved)}")

figure = Figure((8, 3), dpi=150, layout="constrained")
axes = figure.subplots()
axes.hlines(range(10), found["student distilled"], found["student alone"], color="0.6")
axes.plot(found["teacher"], range(10), "k^", label="teacher")
axes.plot(found["student distilled"], range(10), "s", label="student distilled")
axes.plot(found["student alone"], range(10), "o", label="student alone")
axes.set(xlabel="errors on 10,000 test images", ylabel="seed", yticks=range(10))
axes.set_title("Ten pairs of students, each with a teacher of its own")
axes.legend(loc="center", bbox_to_anchor=(0.44, 0.5))
figure.savefig("ten_pairs.png")
