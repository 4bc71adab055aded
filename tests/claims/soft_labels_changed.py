"""Claim: ..."""

import numpy as np
import seaborn
import torch
import torch.nn.functional as F
from common import SEEDS, interval, limits, load_mnist, new_teacher, three_students
from matplotlib.figure import Figure

from kd_mnist import DistillationLoss, predict

train_set, test_set = load_mnist()
images, labels = train_set
is_label = F.one_hot(labels, 10).bool()


def changed(p, seed):
    """The probabilities p (N, 10), and what is left of them after four changes."""
    sure = p[is_label].unsqueeze(1)  # the probability of the label
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(p), 9, generator=generator).argsort(1)
    shuffled = p.clone()
    shuffled[~is_label] = p[~is_label].view(-1, 9).gather(1, order).flatten()
    class_means = torch.stack([p[labels == k].mean(0) for k in range(10)])
    return {
        "as they are": p,
        "each class's mean": class_means[labels],
        "wrong classes made equal": torch.where(is_label, sure, (1 - sure) / 9),
        "wrong classes shuffled": shuffled,
        "label smoothing": torch.where(is_label, sure.mean(), (1 - sure.mean()) / 9),
    }


alone = np.mean(three_students("alone", train_set, test_set))
saved = {}  # for each kind of soft labels and each loss: a value from each teacher
for seed in SEEDS:
    teacher = new_teacher(seed, train_set, test_set)
    logits = predict(teacher, images)
    hard = images, logits.argmax(1)
    found = three_students("the teacher's hard labels", hard, test_set)
    saved.setdefault("the teacher's hard labels", []).append(alone - np.mean(found))
    for temperature, alpha in ((2.0, 0.5), (4.0, 0.9)):
        p = (logits / temperature).softmax(1)
        for kind, soft_labels in changed(p, seed).items():
            name = f"{kind}, T = {temperature:g}, alpha = {alpha:g}"
            found = three_students(
                name,
                train_set,
                test_set,
                teacher_logits=temperature * soft_labels.log(),  # gives them at T
                distillation_loss=DistillationLoss(temperature, alpha),
            )
            saved.setdefault(name, []).append(alone - np.mean(found))
print(f"alone: {alone:.1f}")
for name, values in saved.items():
    print(f"{name}: saved {interval(values)}")

shown = {}
for name, values in saved.items():
    kind, _, loss = name.partition(", ")
    if loss == "T = 4, alpha = 0.9":
        shown[kind] = values
figure = Figure((7, 3), dpi=150, layout="constrained")
axes = figure.subplots()
seaborn.barplot(shown, orient="h", errorbar=limits, color="0.7", edgecolor="k", ax=axes)
axes.set_title("Soft labels (T = 4, alpha = 0.9), as they are and changed")
axes.set_xlabel(f"errors saved of {alone:.0f}: mean and 95 % interval, three teachers")
figure.savefig("soft_labels_changed.png")
