"""Knowledge distillation on MNIST: a CNN teaches an MLP that does a tenth of the CNN's arithmetic.

    python kd_mnist.py              # teacher, student alone, the same student distilled
    python kd_mnist.py --help       # every setting
    python kd_mnist.py --dry-run    # every stage in a few seconds; the numbers mean nothing

First comes the method, up to ``train``: Hinton, Vinyals and Dean (2015), arXiv:1503.02531. Then
the experiment, the data, the figures, the files and the command line.
Shapes: N images, C classes (10 for digits), M ways to shift an image.
"""

import argparse
import contextlib
import functools
import io
import json
import math
import os
import platform
import signal
import socket
import sys
import tempfile
import time
import timeit
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import seaborn
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy import stats
from sklearn import datasets, metrics
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# ========================================================================== the method


class TeacherCNN(nn.Module):
    """Two convolutions and one linear layer: images ``(N, 1, 28, 28)`` to logits ``(N, 10)``.

    20,490 weights by default; each convolution weight is used at hundreds of places of an image.
    """

    def __init__(self, channels=(16, 32), image_shape=(1, 28, 28), classes=10):
        super().__init__()
        depth, height, width = image_shape
        self.conv1 = nn.Conv2d(depth, channels[0], 3, padding=1)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=1)
        pooled = (height // 4) * (width // 4)  # pooled twice: 28 -> 14 -> 7
        self.linear = nn.Linear(channels[1] * pooled, classes)
        self.to(memory_format=torch.channels_last)  # the fastest layout on a CPU

    def forward(self, images):
        # max(relu(x)) = relu(max(x)): pooling first leaves ReLU a quarter of the work.
        x = F.relu(F.max_pool2d(self.conv1(images), 2))  # (N, 16, 14, 14)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (N, 32, 7, 7)
        return self.linear(x.flatten(1))  # (N, 10)


class StudentMLP(nn.Sequential):
    """A fully connected network: images ``(N, 1, 28, 28)`` to logits ``(N, 10)``.

    784 -> 128 -> 10 by default: five times the teacher's weights, a tenth of its multiply-adds.
    """

    def __init__(self, hidden=(128,), image_shape=(1, 28, 28), classes=10):
        sizes = (math.prod(image_shape), *hidden)
        layers = [nn.Flatten()]
        for n_in, n_out in zip(sizes, hidden):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        super().__init__(*layers, nn.Linear(sizes[-1], classes))


class DistillationLoss(nn.Module):
    """Learn from soft and hard labels at once: Hinton, Vinyals and Dean (2015), section 2.

        alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T))
            + (1 - alpha) * cross_entropy(student, labels)

    Soft labels are a teacher's probabilities of all classes; a hard label names one. ``alpha`` in
    [0, 1] is the *teacher's* weight: 0 is training alone, 1 ignores the hard labels.
    ``temperature`` T > 1 softens both distributions, so that small probabilities count. A high T
    divides the gradient of the first term by about T^2; the factor T^2 makes up for it. Both terms
    are means over the N images: ``batchmean``, since ``mean`` would divide by the C classes too.

    Call with ``student_logits (N, C)``, ``teacher_logits (N, C)`` and ``labels (N,)`` int64; the
    result is a scalar. Give it logits, not probabilities: it applies the softmax itself. No
    gradient reaches the teacher. ``ValueError`` if shapes do not match.
    """

    def __init__(self, temperature=2.0, alpha=0.5):
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, not {temperature}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
        self.temperature = temperature
        self.alpha = alpha

    def forward(self, student_logits, teacher_logits, labels):
        shapes = [tuple(part.shape) for part in (student_logits, teacher_logits, labels)]
        student, teacher, target = shapes
        if len(student) != 2 or teacher != student or target != student[:1]:
            raise ValueError(f"expected logits (N, C) twice and labels (N,), got {shapes}")
        log_q = F.log_softmax(student_logits / self.temperature, dim=1)
        log_p = F.log_softmax(teacher_logits.detach() / self.temperature, dim=1)
        soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)  # KL(p || q)
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard


def to_float(images):
    """Scale uint8 images to floats from 0 to 1; leave floats as they are."""
    return images if images.is_floating_point() else images / 255


@torch.no_grad()
def predict(model, images, batch_size=256):
    """Logits ``(N, C)`` of ``model`` for ``images``, in evaluation mode and without gradients."""
    was_training = model.training
    model.eval()
    logits = [model(to_float(batch)).float() for batch in images.split(batch_size)]
    model.train(was_training)
    return torch.cat(logits)


def accuracy(logits, labels):
    """Share of the N images whose largest logit is that of their label."""
    return (logits.argmax(1) == labels).float().mean().item()


def shift(images, down, right):
    """Images ``(N, channels, H, W)`` moved by whole pixels, up or left if negative, over zeros."""
    height, width = images.shape[2:]
    margin = max(abs(down), abs(right))
    padded = F.pad(images, [margin] * 4)
    top = margin - down
    left = margin - right
    return padded[:, :, top : top + height, left : left + width]


def all_shifts(max_shift):
    """Every ``(down, right)`` of up to ``max_shift`` pixels: M = (2 * max_shift + 1)^2 of them."""
    pixels = range(-max_shift, max_shift + 1)
    return [(down, right) for down in pixels for right in pixels]


def soft_labels(teacher, images, max_shift=0):
    """The teacher's logits ``(M, N, C)`` for the images after each of ``all_shifts(max_shift)``.

    The loss makes them soft labels. A frozen teacher always answers the same, so it is asked once,
    not in every epoch. Entry ``[m, n]`` is for shift m of image n, in whatever order the student
    sees the images.
    """
    return torch.stack([predict(teacher, shift(images, *by)) for by in all_shifts(max_shift)])


def train(
    model,
    train_set,  # images (N, channels, H, W), uint8 or from 0 to 1; labels (N,) int64
    test_set,  # the same; evaluated after each epoch, never used to choose anything
    *,
    epochs,
    teacher_logits=None,  # from soft_labels, (M, N, C); None: learn from labels alone
    distillation_loss=None,  # of (logits, teacher_logits, labels); None: the default
    seed=0,  # of batches and shifts: models with the same seed see the same batches
    batch_size=128,  # at most: all batches of an epoch are nearly equal in size
    lr=1e-3,  # Adam's learning rate
    one_cycle=False,  # rate up to lr, then to 0; momentum reversed (Smith, Topin 2018)
    max_shift=0,  # shift each batch, as a whole, by up to this many pixels
    optimizer=None,  # your own, for this model; lr then matters only with one_cycle
    progress=lambda line: None,  # called with a line of text about each epoch: print, say
):
    """Train ``model``, alone or distilled, and return its history: a record for each epoch.

    ``TypeError`` or ``ValueError`` if data or soft labels are not as described above,
    ``FloatingPointError`` if training diverges.
    """
    check_data(train_set, test_set, teacher_logits, distillation_loss, max_shift)
    distillation_loss = distillation_loss or DistillationLoss()
    images, labels = train_set
    shifts = all_shifts(max_shift)
    generator = torch.Generator().manual_seed(seed)  # nothing else draws from it
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    steps = math.ceil(len(images) / batch_size)  # in each epoch
    if one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    history = []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        total_loss = 0.0
        model.train()
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for batch in order.tensor_split(steps):  # of nearly equal sizes
            m = torch.randint(len(shifts), (), generator=generator).item()
            x = shift(images[batch], *shifts[m])
            logits = model(to_float(x)).float()  # autocast may give bfloat16
            if teacher_logits is None:  # alone
                loss = F.cross_entropy(logits, labels[batch])
            else:  # distilled
                loss = distillation_loss(logits, teacher_logits[m, batch], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if one_cycle:
                schedule.step()
            total_loss += loss.detach() * len(batch)  # .item() would wait for a GPU
        record = {"epoch": epoch, "loss": float(total_loss) / len(images)}
        record["seconds"] = time.perf_counter() - started
        test_logits = predict(model, test_set[0])
        record["test_accuracy"] = accuracy(test_logits, test_set[1])
        if not (math.isfinite(record["loss"]) and test_logits.isfinite().all()):
            raise FloatingPointError(f"epoch {epoch}: the loss is not finite, lower the lr")
        history.append(record)
        show_epoch(record, epochs, progress)
    return history


# ====================================================================== the experiment


def setting(default, low, high, help):
    """A field of ``Settings``: a number, or a tuple of numbers, from ``low`` to ``high``."""
    return field(default=default, metadata={"low": low, "high": high, "help": help})


@dataclass(frozen=True)
class Settings:
    """What an experiment depends on besides its data; the defaults are for MNIST.

    ``ValueError`` if a setting is out of its range.
    """

    temperature: float = setting(2.0, 0.01, 1000, "T, which softens the labels")
    alpha: float = setting(0.5, 0, 1, "weight of the teacher's term in the loss")
    runs: int = setting(1, 1, 1000, "times to train both students; run i uses seed + i")
    seed: int = setting(0, 0, 2**31, "random seed of weights, batches and shifts")
    batch_size: int = setting(128, 1, 60_000, "images in a training step")
    bf16: bool = setting(True, False, True, "train the teacher in bfloat16 if possible")
    teacher_epochs: int = setting(5, 1, 10_000, "passes through the training images")
    teacher_lr: float = setting(3e-3, 1e-8, 1000, "peak of the one-cycle learning rate")
    teacher_shift: int = setting(1, 0, 4, "shift its images by up to so many pixels")
    teacher_channels: tuple = setting((16, 32), 1, 10_000, "channels of its convolutions")
    student_epochs: int = setting(20, 1, 10_000, "passes through the training images")
    student_lr: float = setting(1e-3, 1e-8, 1000, "constant learning rate")
    student_shift: int = setting(0, 0, 4, "shift their images by up to so many pixels")
    student_hidden: tuple = setting((128,), 1, 10_000, "units of the hidden layers")

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type is tuple and not isinstance(value, (tuple, list)):
                raise ValueError(f"{f.name} must be a tuple of numbers, not {value!r}")
            numbers = value if f.type is tuple else [value]
            types = (int, float) if f.type is float else int
            low = f.metadata["low"]
            high = f.metadata["high"]
            for number in numbers:
                if not isinstance(number, types) or not low <= number <= high:
                    raise ValueError(f"{f.name} must be from {low} to {high}, not {number!r}")
        if len(self.teacher_channels) != 2:
            raise ValueError(f"teacher_channels must be two, not {self.teacher_channels}")


class Trained(NamedTuple):
    """A network, its history from ``train``, and its logits for the test images, on the CPU."""

    model: nn.Module
    history: list
    test_logits: torch.Tensor


class Experiment(NamedTuple):
    """What ``run_experiment`` returns; ``alone[i]`` and ``distilled[i]`` are pair i.

    ``results`` holds a summary of each kind of network and the gain, ready for JSON.
    """

    settings: Settings
    teacher: Trained
    alone: list
    distilled: list
    results: dict


def cpu_capabilities():
    """What torch knows of this CPU, by name; nothing if this torch is too old to tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return {}
    return torch.cpu.get_capabilities()


def has_bfloat16():
    """Whether this CPU has instructions for bfloat16."""
    capabilities = cpu_capabilities()
    return capabilities.get("amx_bf16", False) or capabilities.get("avx512_bf16", False)


def train_teacher(train_set, test_set, settings=Settings(), progress=lambda line: None):
    """Train a TeacherCNN of the size that images and classes need, and return a ``Trained``."""
    images = train_set[0]
    classes = 1 + max(int(train_set[1].max()), int(test_set[1].max()))
    torch.manual_seed(settings.seed)
    teacher = TeacherCNN(settings.teacher_channels, images.shape[1:], classes).to(images.device)
    bfloat16 = settings.bf16 and images.device.type == "cpu" and has_bfloat16()
    # No cache: it would go on using the bfloat16 weights of the first step.
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16, cache_enabled=False):
        history = train(
            teacher,
            train_set,
            test_set,
            epochs=settings.teacher_epochs,
            seed=settings.seed,
            batch_size=settings.batch_size,
            lr=settings.teacher_lr,
            one_cycle=True,
            max_shift=settings.teacher_shift,
            progress=progress,
        )
    test_logits = predict(teacher, test_set[0]).cpu()  # in float32
    return Trained(teacher.eval(), history, test_logits)


def run_experiment(
    train_set,  # as for train: images of any size, any number of classes, on any device
    test_set,
    settings=Settings(),
    teacher=None,  # a trained network of yours; None: train a TeacherCNN
    new_student=None,  # makes a student, called without arguments; None: a StudentMLP
    progress=lambda line: None,  # called with lines of text: print, say
):
    """Train a teacher and pairs of students, one alone, one distilled: an ``Experiment``."""
    check_data(train_set, test_set)
    images = train_set[0]
    if teacher is None:
        progress("\nTeacher")
        trained_teacher = train_teacher(train_set, test_set, settings, progress)
    else:
        trained_teacher = Trained(teacher, [], predict(teacher, test_set[0]).cpu())
    teacher_logits = soft_labels(trained_teacher.model, images, settings.student_shift)
    if new_student is None:
        sizes = (settings.student_hidden, images.shape[1:], teacher_logits.shape[-1])
        new_student = functools.partial(StudentMLP, *sizes)
    distillation_loss = DistillationLoss(settings.temperature, settings.alpha)
    students = {"alone": [], "distilled": []}
    for seed in range(settings.seed, settings.seed + settings.runs):
        for way in ("alone", "distilled"):
            progress(f"\nStudent {way}, seed {seed}")
            torch.manual_seed(seed)  # the same weights, and the same dropout, both ways
            student = new_student().to(images.device)
            history = train(
                student,
                train_set,
                test_set,
                epochs=settings.student_epochs,
                teacher_logits=teacher_logits if way == "distilled" else None,
                distillation_loss=distillation_loss if way == "distilled" else None,
                seed=seed,
                batch_size=settings.batch_size,
                lr=settings.student_lr,
                max_shift=settings.student_shift,
                progress=progress,
            )
            test_logits = predict(student, test_set[0]).cpu()
            students[way].append(Trained(student.eval(), history, test_logits))
    teacher_test_logits = trained_teacher.test_logits
    results = {
        "teacher": summarize([trained_teacher], test_set, teacher_test_logits),
        "student_alone": summarize(students["alone"], test_set, teacher_test_logits),
        "student_distilled": summarize(students["distilled"], test_set, teacher_test_logits),
        "gain": compare(students["alone"], students["distilled"], test_set[1]),
    }
    return Experiment(settings, trained_teacher, students["alone"], students["distilled"], results)


def shift_errors(model, test_set, max_shift=4, most=2000):
    """Per cent of wrong answers on test images shifted by 0, 1, ... ``max_shift`` pixels: a list.

    From 1 on each is the mean over eight directions. All are over every n-th test image, ``most``
    at most.
    """
    n = math.ceil(len(test_set[0]) / most)
    images = test_set[0][::n]
    labels = test_set[1][::n]
    wrong = [100 - 100 * accuracy(predict(model, images), labels)]
    for pixels in range(1, max_shift + 1):
        accuracies = []
        for down, across in all_shifts(1):
            if (down, across) != (0, 0):
                shifted = shift(images, pixels * down, pixels * across)
                accuracies.append(accuracy(predict(model, shifted), labels))
        wrong.append(100 - 100 * float(np.mean(accuracies)))
    return wrong


def measure(trained, test_set, teacher_test_logits):
    """The results of a ``Trained`` network, ready for JSON."""
    model, history, logits = trained
    labels = test_set[1].cpu()
    classes = range(logits.shape[1])
    answers = logits.argmax(1)
    thousand = test_set[0][:1000]
    seconds = timeit.repeat(lambda: predict(model, thousand).cpu(), number=1, repeat=4)
    with FlopCounterMode(display=False) as counter:
        predict(model, thousand[:1])
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,  # each is two operations
        "ms_per_1000": 1e6 * min(seconds[1:]) / len(thousand),  # the first is a warm-up
        "accuracy": accuracy(logits, labels),
        "errors": int((answers != labels).sum()),
        "nll": F.cross_entropy(logits.double(), labels).item(),
        "agreement": accuracy(logits, teacher_test_logits.argmax(1)),
        "per_class": metrics.classification_report(
            labels, answers, labels=classes, output_dict=True, zero_division=0
        ),
        "confusion_matrix": metrics.confusion_matrix(labels, answers, labels=classes).tolist(),
        "shift_errors": shift_errors(model, test_set),
        "layers": str(model).splitlines(),
        "history": history,
    }


def summarize(all_trained, test_set, teacher_test_logits):
    """``measure`` each of several ``Trained`` networks; with mean and standard deviation."""
    runs = [measure(trained, test_set, teacher_test_logits) for trained in all_trained]
    mean = {}
    sd = {}
    for key in ("ms_per_1000", "accuracy", "errors", "nll", "agreement"):
        values = [run[key] for run in runs]
        mean[key] = float(np.mean(values))
        sd[key] = float(np.std(values, ddof=1)) if len(runs) > 1 else None
    return {"runs": runs, "mean": mean, "sd": sd}


def compare(alone, distilled, labels):
    """The gain of distillation over pairs of ``Trained`` students, and whether it may be chance.

    Several pairs are judged by Student's t interval of the mean difference, a single pair by the
    exact McNemar test (1947): if both were equally good, it would be a coin toss which of them
    fails on an image that only one of them gets right.
    """
    labels = labels.cpu()
    wrong_alone = torch.stack([s.test_logits.argmax(1) != labels for s in alone])
    wrong_distilled = torch.stack([s.test_logits.argmax(1) != labels for s in distilled])
    saved = (wrong_alone.sum(1) - wrong_distilled.sum(1)).double().numpy()  # per pair
    mean = float(saved.mean())
    points = 100 / len(labels)  # of accuracy, for each error
    p_value = None
    interval = None
    if len(saved) == 1:
        only_alone = int((wrong_alone & ~wrong_distilled).sum())
        only_one = int((wrong_alone != wrong_distilled).sum())
        p_value = float(stats.binomtest(only_alone, only_one).pvalue) if only_one else 1.0
        significant = p_value < 0.05
    else:
        margin = float(stats.t.ppf(0.975, len(saved) - 1) * stats.sem(saved))
        interval = [points * (mean - margin), points * (mean + margin)]
        significant = 0 < margin < abs(mean)  # 0 if all are equal: spread unknown
    verdict = "better" if mean > 0 else "worse"
    return {
        "errors": mean,
        "points": points * mean,
        "p_value": p_value,
        "interval": interval,
        "verdict": verdict if significant else "no difference shown",
    }


def results_table(results):
    """The table of the networks in ``results`` and the gain, if it holds one, as text."""
    lines = [f"{'':17}  weights mult-adds ms/1000 accuracy      errors    NLL  agrees"]
    for name, summary in results.items():
        if name == "gain":
            continue
        first = summary["runs"][0]
        mean = summary["mean"]
        errors = f"{mean['errors']:.4g}"
        if len(summary["runs"]) > 1:
            errors += f" ± {summary['sd']['errors']:.2g}"
        lines.append(
            f"{name.replace('_', ' '):17}{first['parameters']:9,}{first['multiply_adds']:10,}"
            f"{mean['ms_per_1000']:8.1f}{mean['accuracy']:9.2%}{errors:>12}"
            f" {mean['nll']:6.3f}{mean['agreement']:8.1%}"
        )
    if gain := results.get("gain"):
        word = "more" if gain["errors"] < 0 else "fewer"
        errors = f"{abs(gain['errors']):.4g} {word} errors ({gain['points']:+.2f} points)"
        if gain["interval"]:
            who = f"Distillation, {len(results['student_alone']['runs'])} pairs"
            low, high = gain["interval"]
            evidence = f"95 % interval of the mean: {low:+.2f} to {high:+.2f} points"
        else:
            who = "This student, distilled"
            evidence = f"exact McNemar test, p = {gain['p_value']:.2g}; more --runs tell more"
        lines += ["", f"{who}: {errors}: {gain['verdict']}", evidence]
    return "\n".join(lines)


# ================================================================================ data

SMALL_DIGITS_SETTINGS = Settings(
    temperature=8.0,
    alpha=0.9,
    runs=3,
    batch_size=64,
    teacher_epochs=160,
    teacher_lr=5e-3,
    teacher_shift=2,
    student_epochs=240,
    student_lr=2e-3,
)
WARNING = """
*** WARNING: this is NOT MNIST, which could be neither read nor downloaded. ***
*** The results are for scikit-learn's 1,797 small handwritten digits.      ***"""


def check_data(train_set, test_set, teacher_logits=None, distillation_loss=None, max_shift=0):
    """``TypeError`` or ``ValueError``, in one line, if ``train`` cannot work with these."""
    for part in (train_set, test_set):
        is_pair = isinstance(part, (tuple, list)) and len(part) == 2
        if not is_pair or not all(torch.is_tensor(tensor) for tensor in part):
            raise TypeError("each data set must be (images, labels), two torch tensors")
        images, labels = part
        if images.dim() != 4 or labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            found = f"{tuple(images.shape)} and {tuple(labels.shape)} of {labels.dtype}"
            expected = "images (N, channels, H, W) and int64 labels (N,)"
            raise ValueError(f"expected {expected}, not {found}")
    shapes = [tuple(part[0].shape) for part in (train_set, test_set)]
    if shapes[0][1:] != shapes[1][1:] or 0 in (shapes[0][0], shapes[1][0]):
        raise ValueError(f"images must be of one size, and some in each set, not {shapes}")
    if teacher_logits is None and distillation_loss is not None:
        raise ValueError("distillation_loss needs teacher_logits: see soft_labels")
    m = len(all_shifts(max_shift))
    n = len(train_set[0])
    if teacher_logits is not None and teacher_logits.shape[:-1] != (m, n):
        raise ValueError(f"soft labels must be ({m}, {n}, C), not {tuple(teacher_logits.shape)}")


def load_mnist(data_dir="data"):
    """MNIST as ``(images, labels), (images, labels)``, training and test; downloaded if missing.

    Images are uint8 ``(N, 1, 28, 28)``, 0 for paper and 255 for ink, labels int64 ``(N,)``.
    ``OSError`` if the files are missing and cannot be downloaded, or damaged.
    """
    from torchvision import datasets as vision  # only here: the import takes a second

    class MNIST(vision.MNIST):
        """With a third mirror; torchvision names its folder after the class."""

        mirrors = (*vision.MNIST.mirrors, "https://storage.googleapis.com/cvdf-datasets/mnist/")

    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds; torchvision sets no limit and would wait for ever
    try:
        sets = [MNIST(data_dir, is_train, download=True) for is_train in (True, False)]
        for part, n in zip(sets, (60_000, 10_000)):
            shapes = (part.data.shape, part.targets.shape)
            if shapes != ((n, 28, 28), (n,)) or part.targets.max() > 9:
                raise ValueError(f"expected {n} images and labels from 0 to 9")
    except Exception as error:  # a network or a file can fail in any way
        reason = " ".join(str(error).split())
        names = ", ".join(name.removesuffix(".gz") for name, _ in MNIST.resources)
        advice = f"empty it and put these files there, gzipped or not: {names}"
        raise OSError(f"no MNIST in {data_dir}/MNIST/raw ({reason}); {advice}") from error
    finally:
        socket.setdefaulttimeout(previous)
    return [(part.data[:, None], part.targets) for part in sets]


def load_small_digits():
    """scikit-learn's digits at MNIST's size; test set: the last 597, mostly by new writers."""
    images, labels = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    images = F.interpolate(images, size=(20, 20), mode="bilinear")
    images = F.pad(images, [4] * 4)
    labels = torch.from_numpy(labels).long()
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def load_data(dataset="auto", data_dir="data"):
    """``(name, training set, test set)``; "auto" is MNIST or, with a warning, the small digits."""
    if dataset != "digits":
        try:
            return "mnist", *load_mnist(data_dir)
        except OSError as error:
            if dataset == "mnist":
                raise
            print(f"{WARNING}\n{error}\n", file=sys.stderr)
    return "digits", *load_small_digits()


def hold_out(data, n, seed=0):
    """Split into two ``(images, labels)``: the rest and ``n``, with the same shares of all classes.

    ``ValueError`` if the classes do not fit into both parts.
    """
    images, labels = data
    least = len(labels.unique())  # one image of each class
    most = len(labels) - least
    if not least <= n <= most:
        raise ValueError(f"can hold out {least} to {most} of {len(labels)} images, not {n}")
    rest, held, rest_labels, held_labels = train_test_split(
        images, labels, test_size=n, random_state=seed, stratify=labels
    )
    return (rest, rest_labels), (held, held_labels)


# ============================================================================= figures


FIGURES = ("confusion_matrix", "training_curves", "shifted_images")


class Picture(Figure):
    """A matplotlib Figure that shows itself in a notebook."""

    def _repr_png_(self):
        content = io.BytesIO()
        self.savefig(content)
        return content.getvalue()


def draw_confusion(labels, logits, title, class_names=None):
    """A Figure that counts true against predicted classes; the errors are shaded red."""
    names = range(logits.shape[1]) if class_names is None else class_names
    answers = logits.argmax(1).cpu()
    counts = metrics.confusion_matrix(labels.cpu(), answers, labels=range(len(names)))
    errors = counts - np.diag(np.diag(counts))
    text = np.where(counts, counts, "").astype(str)
    figure = Picture((7, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    seaborn.heatmap(errors, annot=text, fmt="", cmap="Reds", linewidths=0.5, cbar=False, ax=axes)
    axes.set_title(f"{title}: {errors.sum():,} errors in {len(labels):,}")
    axes.set(xlabel="predicted", ylabel="true", xticklabels=names, yticklabels=names)
    return figure


def draw_curves(curves, first, xlabel, ylabel, title):
    """A Figure of the means of ``{name: [values of each run]}`` over first, first + 1, ..."""
    rows = []
    for name, runs in curves.items():
        for run in runs:
            rows += [(x, y, name) for x, y in enumerate(run, first)]
    x, y, names = zip(*rows)
    figure = Picture((7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    seaborn.lineplot(x=x, y=y, hue=names, style=names, markers=True, errorbar="sd", ax=axes)
    axes.legend(title="mean and, over several runs, standard deviation")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    return figure


def draw_figures(experiment, test_set, title, class_names=None):
    """The three Figures of an ``Experiment``, by name."""
    by_epoch = {}
    by_shift = {}
    for name in ("teacher", "student_alone", "student_distilled"):
        runs = experiment.results[name]["runs"]
        label = name.replace("_", " ")
        by_shift[label] = [run["shift_errors"] for run in runs]
        by_epoch[label] = [[100 - 100 * e["test_accuracy"] for e in run["history"]] for run in runs]
    logits = experiment.distilled[0].test_logits
    wrong = "wrong answers on test images, per cent"
    confusion = draw_confusion(test_set[1], logits, f"{title}, distilled student", class_names)
    training = draw_curves(by_epoch, 1, "epoch", wrong, f"{title}: training")
    shifting = draw_curves(by_shift, 0, "shift in pixels", wrong, f"{title}: shifted images")
    return dict(zip(FIGURES, (confusion, training, shifting)))


# =============================================================================== files


def load_weights(network, path):
    """``network``, ready to predict, with the weights in ``path``; ``OSError`` if none fit."""
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # files from elsewhere can fail in any way
        reason = " ".join(str(error).split())[:300]
        name = type(network).__name__
        raise OSError(f"the weights in {path} do not fit this {name}: {reason}") from error
    return network.eval()


def write_files(folder, contents, outdated=()):
    """Write ``{name: bytes}`` to ``folder``: all of them whole, or nothing.

    The files that they replace, and the ``outdated`` ones, go before the first new one comes: files
    of two runs never lie side by side.
    """
    folder = Path(folder)
    with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=folder) as unfinished:
        for name, content in contents.items():
            Path(unfinished, name).write_bytes(content)
        for name in (*contents, *outdated):
            (folder / name).unlink(missing_ok=True)
        for name in contents:
            Path(unfinished, name).replace(folder / name)


@contextlib.contextmanager
def interruption_held_back():
    """Let Ctrl-C wait for the end of the block: matplotlib may turn it into other errors."""
    received = []
    previous = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if received:
        raise KeyboardInterrupt


def save_results(experiment, facts, folder, prefix):
    """Write the JSON and the weights of teacher and first pair; remove an earlier run's figures.

    ``facts`` is a dictionary that the JSON holds beside the settings and results.
    """
    report = {"settings": asdict(experiment.settings)}
    report.update(facts)
    report.update(experiment.results)
    text = json.dumps(report, indent=1, allow_nan=False)
    contents = {f"{prefix}_results.json": text.encode()}
    networks = {
        "teacher": experiment.teacher.model,
        "student_alone": experiment.alone[0].model,
        "student_distilled": experiment.distilled[0].model,
    }
    for name, network in networks.items():
        weights = {key: weight.cpu() for key, weight in network.state_dict().items()}
        content = io.BytesIO()
        torch.save(weights, content)
        contents[f"{prefix}_{name}.pt"] = content.getvalue()
    write_files(folder, contents, outdated=[f"{prefix}_{name}.png" for name in FIGURES])


def save_figures(figures, folder, prefix):
    """Write ``{name: Figure}`` to PNG files."""
    contents = {f"{prefix}_{name}.png": figure._repr_png_() for name, figure in figures.items()}
    write_files(folder, contents)


# ======================================================================== command line


def say(text):
    """Print, and go on in silence when the reader is gone, as after ``| head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_epoch(record, epochs, progress):
    """Give ``progress`` a line for each epoch, or for some of them if there are many."""
    if (epochs - record["epoch"]) % max(1, epochs // 20) == 0:  # always for the last
        result = f"loss {record['loss']:.4f}   test accuracy {record['test_accuracy']:.2%}"
        progress(f"  epoch {record['epoch']}/{epochs}   {result}   {record['seconds']:.2f} s")


class Parser(argparse.ArgumentParser):
    """Refuses a bad command line in one line, without the usage text."""

    def error(self, message):
        """End the program with exit code 2."""
        self.exit(2, f"kd_mnist.py: error: {message} (--help shows all options)\n")


def usable_device(name):
    """The torch device ``name``; "auto" is CUDA if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()
    except Exception as error:  # a GPU can be full, too old, without its driver ...
        reason = str(error).partition("\n")[0]
        raise argparse.ArgumentTypeError(f"{reason}; try --device cpu") from error
    return torch.device(name)


def build_parser():
    """An option for each field of ``Settings``, then those about data and files."""
    parser = Parser(
        usage="python kd_mnist.py [options]",
        description="Train a teacher, a student alone and the same student distilled.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    absent = argparse.SUPPRESS  # what is not typed keeps the default of the data
    group = parser.add_argument_group("settings, by default those for MNIST")
    for f in fields(Settings):
        flag = "--" + f.name.replace("_", "-")
        help = f"{f.metadata['help']} (default: {f.default})"
        limits = f"{f.metadata['low']}..{f.metadata['high']}"
        if f.type is bool:
            group.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=absent, help=help
            )
        elif f.type is tuple:
            group.add_argument(flag, type=int, nargs="+", default=absent, metavar=limits, help=help)
        else:
            group.add_argument(flag, type=f.type, default=absent, metavar=limits, help=help)
    group = parser.add_argument_group("data and files")
    names = ("auto", "mnist", "digits")
    group.add_argument("--dataset", choices=names, default="auto", help="data to use")
    group.add_argument("--data-dir", type=Path, default="data", help="holds MNIST/raw")
    group.add_argument("--holdout", type=int, help="test on so many training images")
    group.add_argument("--subset", type=int, help="train on so many, test on a sixth")
    group.add_argument("--teacher", type=Path, help="weights of a trained teacher")
    group.add_argument("--out-dir", type=Path, default=".", help="folder for the results")
    group.add_argument("--device", type=usable_device, default="auto", help="cpu, cuda or cuda:1")
    group.add_argument("--dry-run", action="store_true", help="a few seconds, all stages")
    return parser


def load_images(args, seed):
    """Name of the data, training set and test set after ``--holdout`` and ``--subset``."""
    dataset, train_set, test_set = load_data(args.dataset, args.data_dir)
    if args.holdout is not None:
        train_set, test_set = hold_out(train_set, args.holdout, seed)
    if args.subset is not None:
        train_set = hold_out(train_set, args.subset, seed)[1]
        test_set = hold_out(test_set, args.subset // 6, seed)[1]
    train_set = [part.to(args.device) for part in train_set]
    test_set = [part.to(args.device) for part in test_set]
    return dataset, train_set, test_set


def describe_machine(device):
    """What the numbers of a run may depend on besides its data and settings."""
    facts = {"device": str(device)}
    facts["processor"] = cpu_capabilities().get("cpu_name", platform.machine())
    if device.type == "cuda":
        facts["processor"] = torch.cuda.get_device_name(device)
    facts["threads"] = torch.get_num_threads()
    facts["bfloat16"] = has_bfloat16()
    facts["python"] = platform.python_version()
    for package in ("torch", "torchvision", "numpy", "scikit-learn"):
        facts[package] = version(package)
    return facts


def run_command(argv):
    """Carry out the command line ``argv``: load, train, compare, print and save."""
    started = time.perf_counter()
    parser = build_parser()
    args = parser.parse_args(argv)
    typed = {f.name: getattr(args, f.name) for f in fields(Settings) if hasattr(args, f.name)}
    if args.dry_run:
        typed.update(teacher_epochs=1, student_epochs=1, runs=1)
        args.subset = 300
    try:
        settings = Settings(**typed)
    except ValueError as error:
        parser.error(str(error))
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out_dir).close()
    except OSError as error:
        parser.error(f"argument --out-dir: {args.out_dir}: {error.strerror}")
    teacher = None
    if args.teacher:
        teacher = load_weights(TeacherCNN(settings.teacher_channels), args.teacher)
        teacher = teacher.to(args.device)
    try:
        dataset, train_set, test_set = load_images(args, settings.seed)
    except ValueError as error:
        parser.error(f"argument --holdout or --subset: {error}")
    title = "MNIST"
    if dataset == "digits":
        title = "small digits, not MNIST"
        settings = replace(SMALL_DIGITS_SETTINGS, **typed)
    prefix = f"dry_run_{dataset}" if args.dry_run else dataset
    tested = "test" if args.holdout is None else "held-out"
    counts = f"{len(train_set[1]):,} training images, {len(test_set[1]):,} {tested} images"
    changed = "".join(f", {name} = {value}" for name, value in typed.items())
    say(f"{title}: {counts}")
    say(f"Settings: the defaults for {dataset}{changed}")
    if (args.out_dir / f"{prefix}_results.json").exists():
        say(f"This run replaces {args.out_dir / prefix}_* of an earlier one.")
    if args.teacher:
        say(f"The teacher is the one in {args.teacher}.")
    facts = {"data": f"{title}: {counts}", "machine": describe_machine(args.device)}
    facts["teacher_file"] = str(args.teacher) if args.teacher else None
    experiment = run_experiment(train_set, test_set, settings, teacher, progress=say)
    say(f"\n{results_table(experiment.results)}")
    facts["seconds"] = time.perf_counter() - started
    with interruption_held_back():
        save_results(experiment, facts, args.out_dir, prefix)
        figures = draw_figures(experiment, test_set, title)
        save_figures(figures, args.out_dir, prefix)
    say(f"\nWrote {prefix}_* to {args.out_dir} after {time.perf_counter() - started:.0f} seconds.")
    if "ipykernel" in sys.modules:  # in a notebook
        from IPython import display

        display.display(*figures.values())
    if args.dry_run:
        say("This was a dry run: every stage works, and its numbers mean nothing.")
    if args.dataset == "auto" and dataset == "digits":
        say(WARNING)


def main(argv=None):
    """Run the command line ``argv``, by default this process's own; return its exit code."""
    if argv is None:  # pasted into a notebook, this file sees the kernel's arguments
        argv = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a path may have letters that a terminal lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        run_command(argv)
    except KeyboardInterrupt:
        print("\nkd_mnist.py: interrupted", file=sys.stderr)
        return 130
    except (OSError, FloatingPointError) as error:
        print(f"kd_mnist.py: error: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        if "memory" not in reason.lower() and "CUDA" not in reason:
            raise  # a mistake in edited code, of which the traceback tells more
        advice = "try a smaller --batch-size or --device cpu"
        print(f"kd_mnist.py: error: {reason}; {advice}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if exit_code := main():  # a notebook shows even exit(0) as an error
        sys.exit(exit_code)
