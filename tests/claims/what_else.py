"""Claim: ..."""

import numpy as np
import torch
from common import (
    SEEDS,
    count_errors,
    interval,
    load_mnist,
    new_teacher,
    three_students,
    train_on_moved_images,
)

from kd_mnist import DistillationLoss, StudentMLP, predict, random_shift

SMOOTHING = 0.1

train_set, test_set = load_mnist()
images, labels = train_set

# The student alone, given more than in the default run.
equal = torch.zeros(len(labels), 10)  # a teacher that finds all classes equally likely
smoothing = DistillationLoss(temperature=1.0, alpha=SMOOTHING)
alone = {
    "alone": three_students("alone", train_set, test_set),
    "alone, label smoothing": three_students(
        "alone, label smoothing",
        train_set,
        test_set,
        teacher_logits=equal,
        distillation_loss=smoothing,
    ),
    "alone, 93 epochs": three_students(
        "alone, 93 epochs", train_set, test_set, epochs=93
    ),
    "alone, moved images": three_students(
        "alone, moved images", train_set, test_set, transform=random_shift
    ),
    "alone, moved images, 93 epochs": three_students(
        "alone, moved images, 93 epochs",
        train_set,
        test_set,
        transform=random_shift,
        epochs=93,
    ),
}

# Distilled: for each teacher the mean of its three students.
distilled = {
    "distilled": [],
    "distilled, T = 4, alpha = 0.1": [],
    "distilled, moved images": [],
    "distilled, no moved image for the teacher": [],
}
for seed in SEEDS:
    teacher = new_teacher(seed, train_set, test_set)
    logits = predict(teacher, images)
    found = three_students("distilled", train_set, test_set, teacher_logits=logits)
    distilled["distilled"].append(np.mean(found))
    found = three_students(
        "distilled, T = 4, alpha = 0.1",
        train_set,
        test_set,
        teacher_logits=logits,
        distillation_loss=DistillationLoss(4.0, 0.1),
    )
    distilled["distilled, T = 4, alpha = 0.1"].append(np.mean(found))
    found = []
    for student_seed in SEEDS:
        torch.manual_seed(student_seed)
        student = StudentMLP()
        loss = DistillationLoss()
        train_on_moved_images(student, teacher, train_set, student_seed, loss)
        found.append(count_errors(student, test_set))
    print(f"  distilled, moved images: {found}, mean {np.mean(found):.1f}", flush=True)
    distilled["distilled, moved images"].append(np.mean(found))
    teacher = new_teacher(seed, train_set, test_set, transform=None)
    found = three_students(
        "distilled, no moved image for the teacher",
        train_set,
        test_set,
        teacher_logits=predict(teacher, images),
    )
    distilled["distilled, no moved image for the teacher"].append(np.mean(found))

print()
for name, errors in alone.items():
    print(f"{name}: {np.mean(errors):.1f}")
for name, errors in distilled.items():
    print(f"{name}: {interval(errors)}")
for name, control in (
    ("distilled", "alone"),
    ("distilled", "alone, label smoothing"),
    ("distilled", "alone, 93 epochs"),
    ("distilled", "alone, moved images"),
    ("distilled, moved images", "alone, moved images"),
    ("distilled, no moved image for the teacher", "alone"),
):
    saved = np.mean(alone[control]) - np.array(distilled[name])
    print(f"{name}, against {control}: saved {interval(saved)}")
