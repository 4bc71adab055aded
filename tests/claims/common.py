"""What the experiments in this folder share.

    python tests/claims/ten_pairs.py --data-dir data

Each file is one claim of the README. It prints its numbers, and if it has a picture, it
writes it to the folder in which it was started. The numbers in the files are those of
one thread (``OMP_NUM_THREADS=1``); more threads round in another order, and single
networks then differ by some errors. Unless a file says otherwise, there are three
teachers (seeds 0, 1, 2) with three students each (seeds 0, 1, 2), all with the settings
of the script, and intervals are 95 % intervals (Student's t) over teachers: one value
from each, the mean of its students. Luck that all teachers share, that of the three
students and of the test images, is not in them.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn

# With this, files that import common first find kd_mnist.py, two folders above.
sys.path.insert(0, str(Path(__file__).parents[2]))
import kd_mnist
from kd_mnist import StudentMLP, TeacherCNN, predict, random_shift

SEEDS = (0, 1, 2)


def load_mnist():
    """The training and the test set of MNIST; ``--data-dir`` as in the script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", default="data")
    return kd_mnist.load_data("mnist", parser.parse_args().data_dir)[1:]


def hold_out(train_set):
    """The rest, and a sixth of the images set aside: 10,000 of MNIST's 60,000.

    As with ``--holdout 10000`` of the script: of each class in proportion.
    """
    images, labels = train_set
    images, held_images, labels, held_labels = train_test_split(
        images, labels, test_size=len(labels) // 6, stratify=labels, random_state=0
    )
    return (images, labels), (held_images, held_labels)


def count_errors(network, data):
    """The number of images that a network reads wrong."""
    images, labels = data
    return int((predict(network, images).argmax(1) != labels).sum())


def move_by_two(batch):
    """Move a batch by up to two pixels; the script's teachers are moved by one."""
    return random_shift(batch, max_shift=2)


def new_teacher(
    seed, train_set, test_set, channels=16, epochs=5, transform=random_shift
):
    """A teacher as in the script; ``transform=None``: it sees no moved image."""
    torch.manual_seed(seed)
    teacher = TeacherCNN(channels)
    kd_mnist.train(
        teacher,
        train_set,
        test_set,
        epochs=epochs,
        transform=transform,
        seed=seed,
        verbose=False,
    )
    print(f"teacher {seed}: {count_errors(teacher, test_set)} errors", flush=True)
    return teacher


def mlp(*hidden):
    """A StudentMLP with several hidden layers: ``mlp(800, 800)`` is 784-800-800-10."""
    sizes = [784, *hidden]
    layers = [nn.Flatten()]
    for inputs, outputs in zip(sizes, hidden):
        layers.append(nn.Linear(inputs, outputs))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def large_student():
    """The student of the 2015 paper, 784-800-800-10."""
    return mlp(800, 800)


def with_dropout(inputs, outputs, dropout):
    """One hidden layer whose answer depends on the mode: train() or eval()."""
    linear = nn.Linear(inputs, outputs)
    return nn.Sequential(
        linear, nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)
    )


def wide_teacher():
    """784-2048-1024-512-10, with BatchNorm and dropout."""
    return nn.Sequential(
        nn.Flatten(),
        with_dropout(784, 2048, 0.3),
        with_dropout(2048, 1024, 0.3),
        with_dropout(1024, 512, 0.2),
        nn.Linear(512, 10),
    )


def new_student(
    seed, train_set, test_set, epochs=20, make_student=StudentMLP, **options
):
    """A student as in the script; ``options`` are those of ``train``."""
    torch.manual_seed(seed)
    student = make_student()
    options = {"epochs": epochs, "seed": seed, "verbose": False, **options}
    kd_mnist.train(student, train_set, test_set, **options)
    return student


def three_students(name, train_set, test_set, **options):
    """Errors of three students, of ``SEEDS``; prints them too."""
    errors = []
    for seed in SEEDS:
        student = new_student(seed, train_set, test_set, **options)
        errors.append(count_errors(student, test_set))
    print(f"  {name}: {errors}, mean {np.mean(errors):.1f}", flush=True)
    return errors


def train_with(
    optimizer,
    batch_loss,
    n,
    epochs,
    seed,
    batch_size=128,
    one_cycle=False,
    cycle_momentum=True,
):
    """The loop of ``train`` for an optimizer and a loss of one's own.

    ``batch_loss(batch)`` is the loss of those of the n images that have the indices
    ``batch``. ``one_cycle``: the learning rate rises and falls as in ``train``, and with
    ``cycle_momentum`` the momentum falls and rises.
    """
    steps = math.ceil(n / batch_size)  # in each epoch
    schedule = None
    if one_cycle:
        lr = optimizer.param_groups[0]["lr"]
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, lr, epochs * steps, cycle_momentum=cycle_momentum
        )
    generator = torch.Generator().manual_seed(seed)  # orders the images
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator)
        for batch in order.tensor_split(steps):
            optimizer.zero_grad()
            batch_loss(batch).backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()


def interval(values):
    """Text: the mean and, in brackets, its 95 % interval (Student's t)."""
    low, high = kd_mnist.interval(values)
    return f"{np.mean(values):.1f} ({low:.1f} to {high:.1f})"
