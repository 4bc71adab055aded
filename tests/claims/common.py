"""What the experiments in this folder share.

    python tests/claims/ten_pairs.py --data-dir data

Each file is one claim of the README. It prints its numbers, and if it has a picture, it
writes it to the folder in which it was started. The numbers in the files are those of one
thread (``OMP_NUM_THREADS=1``); more threads round in another order, and single networks
then differ by some errors. Unless a file says otherwise, there are three teachers
(seeds 0, 1, 2) with three students each (seeds 0, 1, 2), all with the settings of the
script, and intervals are 95 % intervals (Student's t) over teachers: one value from each,
the mean of its students. Luck that all teachers share, that of the three students and of
the test images, is not in them.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from scipy import stats
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


def new_student(seed, train_set, test_set, epochs=20, hidden=128, **options):
    """A student as in the script; ``options`` are those of ``train``."""
    torch.manual_seed(seed)
    student = StudentMLP(hidden)
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


def five_epochs(network, data, seed, teacher_logits=None, distillation_loss=None):
    """Train as textbooks do, with Adam at a constant 1e-3; return the test errors."""
    train_set, test_set = data
    kd_mnist.train(
        network,
        train_set,
        test_set,
        epochs=5,
        teacher_logits=teacher_logits,
        distillation_loss=distillation_loss,
        seed=seed,
        optimizer=torch.optim.Adam(network.parameters(), lr=1e-3),
        verbose=False,
    )
    return count_errors(network, test_set)


def train_on_moved_images(student, teacher, train_set, seed, loss, epochs=20, lr=7e-3):
    """Distil as ``train`` does, but move each batch and ask the teacher about it."""
    images, labels = train_set
    steps = math.ceil(len(images) / 128)
    optimizer = torch.optim.Adam(student.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for batch in order.tensor_split(steps):
            x = random_shift(images[batch])
            with torch.no_grad():
                teacher_logits = teacher(x)
            optimizer.zero_grad()
            loss(student(x), teacher_logits, labels[batch]).backward()
            optimizer.step()
            schedule.step()


def feature_layers(cnn):
    """All of a TeacherCNN but its last layer: images to features (N, 1568)."""
    first = cnn.conv1, nn.MaxPool2d(2), nn.ReLU()
    second = cnn.conv2, nn.MaxPool2d(2), nn.ReLU()
    return nn.Sequential(*first, *second, nn.Flatten())


def hidden_layer(student):
    """The first layers of a StudentMLP: images to its hidden units (N, 128)."""
    flatten, linear, relu, _ = student
    return nn.Sequential(flatten, linear, relu)


def hints(cnn, images):
    """The features (N, 1568), less their mean over the images, by their deviation."""
    features = predict(feature_layers(cnn), images)
    return (features - features.mean(0)) / (features.std(0) + 1e-3)


def limits(values):
    """The 95 % interval of the mean (Student's t), with one value from each teacher."""
    margin = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return np.mean(values) - margin, np.mean(values) + margin


def interval(values):
    """Text: the mean and, in brackets, its interval."""
    low, high = limits(values)
    return f"{np.mean(values):.1f} ({low:.1f} to {high:.1f})"
