"""NOTE"""

import argparse
import copy
import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from common import SEEDS, count_errors, interval, new_teacher
from sklearn.model_selection import train_test_split
from torch import nn

import kd_mnist
from kd_mnist import DistillationLoss, StudentMLP, predict

# %% Part 1: losses with one mistake each. t is the temperature.


def right(student, teacher, labels, t, alpha):
    """The script's own loss. Each of the others differs from it in one line."""
    return DistillationLoss(t, alpha)(student, teacher, labels)


def t_squared_left_out(student, teacher, labels, t, alpha):
    log_q = F.log_softmax(student / t, dim=1)
    p = F.softmax(teacher / t, dim=1)
    soft = F.kl_div(log_q, p, reduction="batchmean")
    return alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)


def mean_not_batchmean(student, teacher, labels, t, alpha):
    log_q = F.log_softmax(student / t, dim=1)
    p = F.softmax(teacher / t, dim=1)
    soft = F.kl_div(log_q, p, reduction="mean")  # also divides by the 10 classes
    return alpha * t**2 * soft + (1 - alpha) * F.cross_entropy(student, labels)


def kl_exchanged(student, teacher, labels, t, alpha):
    log_p = F.log_softmax(teacher / t, dim=1)
    q = F.softmax(student / t, dim=1)
    soft = F.kl_div(log_p, q, reduction="batchmean")  # KL(q || p)
    return alpha * t**2 * soft + (1 - alpha) * F.cross_entropy(student, labels)


def t_on_teacher_only(student, teacher, labels, t, alpha):
    log_q = F.log_softmax(student, dim=1)
    p = F.softmax(teacher / t, dim=1)
    soft = F.kl_div(log_q, p, reduction="batchmean")
    return alpha * t**2 * soft + (1 - alpha) * F.cross_entropy(student, labels)


def softmax_twice(student, teacher, labels, t, alpha):
    log_q = F.log_softmax(F.softmax(student, dim=1) / t, dim=1)
    p = F.softmax(F.softmax(teacher, dim=1) / t, dim=1)
    soft = F.kl_div(log_q, p, reduction="batchmean")
    return alpha * t**2 * soft + (1 - alpha) * F.cross_entropy(student, labels)


def alpha_exchanged(student, teacher, labels, t, alpha):
    log_q = F.log_softmax(student / t, dim=1)
    p = F.softmax(teacher / t, dim=1)
    soft = F.kl_div(log_q, p, reduction="batchmean")
    return (1 - alpha) * t**2 * soft + alpha * F.cross_entropy(student, labels)


def hard_labels(student, teacher, labels, t, alpha):
    soft = F.cross_entropy(student, teacher.argmax(dim=1))  # no T: it changes nothing
    return alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)


LOSSES = (
    right,
    t_squared_left_out,
    mean_not_batchmean,
    kl_exchanged,
    t_on_teacher_only,
    softmax_twice,
    hard_labels,
    alpha_exchanged,
)


def learn(seed, train_set, test_set, teacher_logits=None, loss=None):
    """A student as in the script: its errors, and its first and last printed loss."""
    torch.manual_seed(seed)
    student = StudentMLP()
    history = kd_mnist.train(
        student,
        train_set,
        test_set,
        epochs=20,
        teacher_logits=teacher_logits,
        distillation_loss=loss,
        seed=seed,
        verbose=False,
    )
    return count_errors(student, test_set), history[0]["loss"], history[-1]["loss"]


def print_row(name, errors, right_errors, alone, printed=None):
    """``errors``: a row for each teacher, with the errors of its students."""
    cost = np.mean(np.subtract(errors, right_errors), axis=1)  # one value a teacher
    saved = np.mean(np.subtract(alone, errors), axis=1)
    line = f"{name:19}{np.mean(errors):7.1f}   {interval(cost):24}{interval(saved):24}"
    if printed is not None:
        line += f"{printed[0]:.3f} to {printed[1]:.4f}"
    print(line, flush=True)


def losses(train_set, test_set):
    """Each loss, at two pairs of T and alpha, from three teachers, three students."""
    alone = np.array([learn(seed, train_set, test_set) for seed in SEEDS])
    print(f"alone: {alone[:, 0]}, mean {alone[:, 0].mean():.1f}")
    print(f"  printed loss, first and last epoch: {alone.mean(0)[1:].round(4)}")
    found = {}  # for each loss: a row for each teacher, of what learn() returns
    for teacher_seed in SEEDS:
        teacher = new_teacher(teacher_seed, train_set, test_set)
        logits = predict(teacher, train_set[0])
        generator = torch.Generator().manual_seed(teacher_seed)
        order = torch.randperm(len(logits), generator=generator)
        cases = [(loss.__name__, loss, logits) for loss in LOSSES]
        cases.append(("other_images", right, logits[order]))
        for t, alpha in ((2.0, 0.5), (4.0, 0.9)):
            for name, loss, given in cases:
                if name == "alpha_exchanged" and alpha == 0.5:
                    continue  # nothing would change
                loss = partial(loss, t=t, alpha=alpha)
                row = [learn(seed, train_set, test_set, given, loss) for seed in SEEDS]
                found.setdefault((t, alpha), {}).setdefault(name, []).append(row)
                errors = [errors for errors, _, _ in row]
                print(f"  T = {t:g}, alpha = {alpha:g}, {name}: {errors}", flush=True)
    for (t, alpha), rows in found.items():
        print(f"T = {t:g}, alpha = {alpha:g}: errors, costs, saves, printed loss")
        right_errors = np.array(rows["right"])[:, :, 0]
        for name, values in rows.items():
            values = np.array(values)
            printed = values.mean((0, 1))[1:]
            print_row(name, values[:, :, 0], right_errors, alone[:, 0], printed)


# %% Part 2: networks with dropout and batch normalisation, left in the wrong mode


def layer(inputs, outputs, dropout):
    """One hidden layer whose answer depends on the mode: train() or eval()."""
    linear = nn.Linear(inputs, outputs)
    return nn.Sequential(
        linear, nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)
    )


def wide_teacher():
    """784-2048-1024-512-10, that of fully_connected.py."""
    hidden = layer(784, 2048, 0.3), layer(2048, 1024, 0.3), layer(1024, 512, 0.2)
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, 10))


def small_student():
    """784-512-256-10."""
    hidden = layer(784, 512, 0.2), layer(512, 256, 0.2)
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, 10))


def learn_in_modes(
    network, train_set, seed, teacher=None, teacher_mode="eval", mode_later="train"
):
    """Five epochs; the network is in ``mode_later`` from the second one on."""
    images, labels = train_set
    epochs = 5
    steps = math.ceil(len(images) / 128)  # in each epoch
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-4, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-4, epochs * steps)
    loss_function = DistillationLoss(temperature=3.5, alpha=0.6)
    torch.manual_seed(seed)  # of dropout
    generator = torch.Generator().manual_seed(seed)  # orders the images
    if teacher is not None:
        teacher.train(teacher_mode == "train")
    for epoch in range(epochs):
        network.train(epoch == 0 or mode_later == "train")
        for batch in torch.randperm(len(images), generator=generator).tensor_split(
            steps
        ):
            logits = network(images[batch])
            if teacher is None:
                loss = F.cross_entropy(logits, labels[batch])
            else:
                with torch.no_grad():
                    teacher_logits = teacher(images[batch])
                loss = loss_function(logits, teacher_logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def modes(train_set, test_set):
    """Three pairs of networks, each student trained in four ways."""
    found = {}
    for seed in SEEDS:
        torch.manual_seed(seed)
        teacher = wide_teacher()
        student = small_student()
        learn_in_modes(teacher, train_set, seed)
        print(f"teacher {seed}: {count_errors(teacher, test_set)} errors", flush=True)
        changed = copy.deepcopy(teacher)  # training mode changes a BatchNorm
        for name, options in (
            ("alone", {}),
            ("right", {"teacher": teacher}),
            ("student_in_eval", {"teacher": teacher, "mode_later": "eval"}),
            ("teacher_in_train", {"teacher": changed, "teacher_mode": "train"}),
        ):
            network = copy.deepcopy(student)  # all start alike
            learn_in_modes(network, train_set, seed, **options)
            errors = count_errors(network, test_set)
            found.setdefault(name, []).append([errors])
            print(f"  {name}, seed {seed}: {errors}", flush=True)
    for name, errors in found.items():
        print_row(name, errors, found["right"], found["alone"])


# %% Part 3: T^2 left out, with an optimizer that does not divide a factor out

RATES = (0.03, 0.1, 0.3, 1.0)


def learn_with_sgd(seed, data, lr, teacher_logits=None, loss_function=None):
    """A student as in the script, but with SGD in place of Adam: its errors."""
    (images, labels), test_set = data
    epochs = 20
    torch.manual_seed(seed)
    student = StudentMLP()
    steps = math.ceil(len(images) / 128)  # in each epoch
    optimizer = torch.optim.SGD(student.parameters(), lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, epochs * steps, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).tensor_split(
            steps
        ):
            logits = student(images[batch])
            if teacher_logits is None:
                loss = F.cross_entropy(logits, labels[batch])
            else:
                loss = loss_function(logits, teacher_logits[batch], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return count_errors(student, test_set)


def best_rate(name, data, *options):
    """The rate of RATES with which student 0 makes the fewest errors."""
    errors = [learn_with_sgd(0, data, lr, *options) for lr in RATES]
    print(f"  {name}, errors on held-out images at rates {RATES}: {errors}", flush=True)
    return RATES[int(np.argmin(errors))]


def sgd(train_set, test_set):
    """Choose rates on held-out images; then three teachers with three students."""
    right_at_4 = partial(right, t=4.0, alpha=0.9)
    left_out_at_4 = partial(t_squared_left_out, t=4.0, alpha=0.9)
    images, held_images, labels, held_labels = train_test_split(
        *train_set,
        test_size=len(train_set[1]) // 6,  # 10,000 of MNIST's 60,000
        stratify=train_set[1],
        random_state=0,
    )
    chosen_on = (images, labels), (held_images, held_labels)
    teacher = new_teacher(0, *chosen_on)
    logits = predict(teacher, images)
    rate = best_rate("alone", chosen_on)
    new_rate = best_rate("T^2 left out", chosen_on, logits, left_out_at_4)

    data = train_set, test_set
    alone = [learn_with_sgd(seed, data, rate) for seed in SEEDS]
    print(f"alone, rate {rate}: {alone}", flush=True)
    found = {}
    for teacher_seed in SEEDS:
        logits = predict(new_teacher(teacher_seed, *data), train_set[0])
        for name, lr, loss in (
            ("right", rate, right_at_4),
            ("t_squared_left_out", rate, left_out_at_4),
            ("... with a new rate", new_rate, left_out_at_4),
        ):
            row = [learn_with_sgd(seed, data, lr, logits, loss) for seed in SEEDS]
            found.setdefault(name, []).append(row)
            print(f"  {name}, rate {lr}: {row}", flush=True)
    for name, errors in found.items():
        print_row(name, errors, found["right"], alone)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--part", choices=("losses", "networks", "sgd"))
    args = parser.parse_args()
    train_set, test_set = kd_mnist.load_data("mnist", args.data_dir)[1:]
    if args.part in (None, "losses"):
        losses(train_set, test_set)
    if args.part in (None, "networks"):
        modes(train_set, test_set)
    if args.part in (None, "sgd"):
        sgd(train_set, test_set)
