"""Claim, of an older version: by and large, better teachers have better students, and a
teacher that is worse than the student alone can still help.

Measured: six kinds of teacher, three of each (seeds 0 to 2), with three default students
each (seeds 0 to 2; T = 2, alpha = 0.5). The kinds differ in channels (2 and 4, 4 and 8, or
the default's 16 and 32), in epochs (1, 5 or 20), and in how far their training images are
moved (not at all, by up to one pixel, or two). Nothing was chosen.

Result: not yet run in full with the present script. In the version of 24 November 2026,
with one teacher of each kind, and T and alpha chosen for it on held-out images, teachers
with 357, 239, 190, 106, 97 and 77 errors had students with 208, 188, 187, 178, 166 and
162; alone they made 225.

Not shown: which property of a teacher matters, as the kinds differ in several. T and alpha
were not chosen anew for each kind.

Seconds: about 1,500 on one core are expected.

Source: Cho and Hariharan (2019), On the Efficacy of Knowledge Distillation,
arXiv:1910.01348, find that better teachers are not always better for a small student.
"""

from functools import partial

import numpy as np
import torch
from common import SEEDS, count_errors, interval, load_mnist, three_students
from matplotlib.figure import Figure

from kd_mnist import TeacherCNN, predict, random_shift, train

KINDS = (  # channels, epochs, pixels by which its images are moved at most
    ("2 and 4 channels", 2, 5, 1),
    ("4 and 8 channels", 4, 5, 1),
    ("one epoch", 16, 1, 1),
    ("no moved images", 16, 5, 0),
    ("the default", 16, 5, 1),
    ("20 epochs, moved by 2", 16, 20, 2),
)

train_set, test_set = load_mnist()
alone = three_students("alone", train_set, test_set)
figure = Figure((8, 4.5), dpi=150, layout="constrained")
axes = figure.subplots()
for (name, channels, epochs, pixels), marker in zip(KINDS, "osv^DP"):
    teachers = []  # errors
    students = []  # mean errors of the three students of each teacher
    for seed in SEEDS:
        torch.manual_seed(seed)
        teacher = TeacherCNN(channels)
        train(
            teacher,
            train_set,
            test_set,
            epochs=epochs,
            transform=partial(random_shift, max_shift=pixels),
            seed=seed,
            verbose=False,
        )
        teachers.append(count_errors(teacher, test_set))
        logits = predict(teacher, train_set[0])
        found = three_students(name, train_set, test_set, teacher_logits=logits)
        students.append(np.mean(found))
    saved = np.mean(alone) - np.array(students)
    print(f"{name}: teachers {teachers}, mean {interval(teachers)}")
    print(f"  students {interval(students)}, saved {interval(saved)}", flush=True)
    axes.plot(teachers, students, marker, markersize=8, alpha=0.7, label=name)
axes.axhline(np.mean(alone), color="0.5", linestyle="--", label="students alone")
axes.axvline(np.mean(alone), color="0.8", linestyle=":")
axes.set(xlabel="test errors of a teacher", ylabel="mean test errors of its students")
axes.set_xscale("log")
axes.legend(fontsize=8)
figure.savefig("better_and_worse_teachers.png")
