"""Knowledge distillation on MNIST: a CNN teaches an MLP that does a tenth of the CNN's arithmetic.

    python kd_mnist.py              # teacher, student alone, the same student distilled
    python kd_mnist.py --help       # every setting

The method comes first, up to ``train``: Hinton, Vinyals and Dean (2015), arXiv:1503.02531.
Shapes: N images, C classes (10 for digits), M ways to shift an image.
"""

import argparse
import copy
import json
import math
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple
from zipfile import is_zipfile

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
    """Two convolutions and one linear layer: images ``(N, 1, 28, 28)`` to logits ``(N, 10)``."""

    def __init__(self, channels=16, image_shape=(1, 28, 28), classes=10):
        super().__init__()
        depth, height, width = image_shape
        self.conv1 = nn.Conv2d(depth, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        pooled = (height // 4) * (width // 4)  # pooled twice: 28 -> 14 -> 7
        self.linear = nn.Linear(2 * channels * pooled, classes)
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
        size = math.prod(image_shape)
        layers = [nn.Flatten()]
        for units in hidden:
            layers += [nn.Linear(size, units), nn.ReLU()]
            size = units
        super().__init__(*layers, nn.Linear(size, classes))


class DistillationLoss(nn.Module):
    """Learn from soft and hard labels at once: Hinton, Vinyals and Dean (2015), section 2.

        alpha * T^2 * KL(p || q) + (1 - alpha) * cross_entropy(student, labels)
        where p = softmax(teacher / T) and q = softmax(student / T)

    Soft labels are a teacher's probabilities of all classes; a hard label names one. ``alpha`` in
    [0, 1] is the *teacher's* weight: 0 is training alone, 1 ignores the hard labels.
    ``temperature`` T > 1 softens both distributions, so that small probabilities count. A high T
    divides the gradient of the first term by about T^2; the factor T^2 makes up for it. Both terms
    are means over the N images: ``batchmean``, since ``mean`` would divide by the C classes too.

    Takes the logits ``(N, C)`` of student and teacher, not probabilities, and int64 labels ``(N,)``
    and returns a scalar. No gradient reaches the teacher. ``ValueError`` if shapes do not match.
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
        shape = student_logits.shape
        if len(shape) != 2 or teacher_logits.shape != shape or labels.shape != shape[:1]:
            found = f"{tuple(shape)}, {tuple(teacher_logits.shape)}, {tuple(labels.shape)}"
            raise ValueError(f"expected logits (N, C) twice and labels (N,), got {found}")
        log_q = F.log_softmax(student_logits / self.temperature, dim=1)
        log_p = F.log_softmax(teacher_logits.detach() / self.temperature, dim=1)
        soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)  # KL(p || q)
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard


@torch.no_grad()
def predict(model, images, batch_size=256):
    """Logits ``(N, C)`` of ``model`` for ``images``, in evaluation mode and without gradients."""
    was_training = model.training
    model.eval()
    logits = [model(batch).float() for batch in images.split(batch_size)]
    model.train(was_training)
    return torch.cat(logits)


def accuracy(logits, labels):
    """Share of the N images whose largest logit is that of their label."""
    return (logits.argmax(1) == labels).float().mean().item()


def shift(images, down, right):
    """Move images ``(N, channels, H, W)`` by whole pixels, up or left if negative, adding zeros."""
    height, width = images.shape[2:]
    margin = max(abs(down), abs(right))
    padded = F.pad(images, [margin] * 4)
    top = margin - down  # a window further up shows the image further down
    left = margin - right
    return padded[:, :, top : top + height, left : left + width]


def all_shifts(max_shift):
    """Every ``(down, right)`` of up to ``max_shift`` pixels: M = (2 * max_shift + 1)^2 of them."""
    pixels = range(-max_shift, max_shift + 1)
    return [(down, right) for down in pixels for right in pixels]


def soft_labels(teacher, images, max_shift=0):
    """The teacher's logits ``(M, N, C)``: ``[m, n]`` is its answer to image n after shift m.

    The loss softens them. A frozen teacher always answers the same, so it is asked only once.
    """
    return torch.stack([predict(teacher, shift(images, *by)) for by in all_shifts(max_shift)])


def train(
    model,
    train_set,  # images (N, channels, H, W), float32 from 0 to 1; labels (N,) int64
    test_set,  # the same; evaluated after each epoch, never used to choose anything
    *,
    epochs,
    teacher_logits=None,  # from soft_labels, (M, N, C); None: learn from labels alone
    distillation_loss=None,  # of (logits, teacher_logits, labels); None: the default
    seed=0,  # of batches and shifts: models with the same seed see the same batches
    batch_size=128,  # at most: all batches of an epoch are nearly equal in size
    lr=1e-3,  # Adam's learning rate
    one_cycle=False,  # rate up to lr, then to 0; momentum the other way (Smith, Topin 2018)
    max_shift=0,  # shift each batch, as a whole, by up to this many pixels
    optimizer=None,  # your own, for this model; lr then matters only with one_cycle
    progress=lambda line: None,  # gets lines of text: print, for example
):
    """Train ``model``, alone or distilled, and return its history: a record for each epoch.

    ``TypeError`` or ``ValueError`` if a shape or a type is not as described above,
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
        for batch in order.tensor_split(steps):
            m = torch.randint(len(shifts), (), generator=generator).item()
            x = shift(images[batch], *shifts[m])
            logits = model(x).float()  # autocast may give bfloat16
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
            raise FloatingPointError(f"epoch {epoch}: not finite: check the data or lower the lr")
        history.append(record)
        show_epoch(record, epochs, progress)
    return history


# ====================================================================== the experiment


def setting(default, low, high, help):
    """A field of ``Settings``: a number from ``low`` to ``high``."""
    return field(default=default, metadata={"limits": (low, high), "help": help})


@dataclass(frozen=True)
class Settings:
    """What an experiment depends on besides its data; ``ValueError`` if out of range."""

    temperature: float = setting(2.0, 0.01, 1000, "T softens the labels")
    alpha: float = setting(0.5, 0, 1, "weight of the teacher's term in the loss")
    runs: int = setting(1, 1, 1000, "pairs of students; pair i has seed + i")
    seed: int = setting(0, 0, 2**31, "of weights, batches and shifts")
    batch_size: int = setting(128, 1, 60_000, "images in a training step")
    bf16: int = setting(1, 0, 1, "1: bfloat16 for the teacher, if the CPU has it")
    teacher_channels: int = setting(16, 1, 10_000, "channels of its first convolution")
    teacher_epochs: int = setting(5, 1, 10_000, "passes over its training images")
    teacher_lr: float = setting(3e-3, 1e-8, 1000, "peak of the one-cycle learning rate")
    teacher_shift: int = setting(1, 0, 4, "shift its images by up to this many pixels")
    student_hidden: int = setting(128, 1, 10_000, "units of the hidden layer")
    student_epochs: int = setting(20, 1, 10_000, "passes over its training images")
    student_lr: float = setting(1e-3, 1e-8, 1000, "constant learning rate")
    student_shift: int = setting(0, 0, 4, "shift images by up to this many pixels")

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            low, high = f.metadata["limits"]
            types = (int, float) if f.type is float else int
            if not isinstance(value, types) or not low <= value <= high:
                raise ValueError(f"{f.name} must be {f.type.__name__} {low} to {high}, not {value}")


class Trained(NamedTuple):
    """A network, its history from ``train``, and its logits for the test images, on the CPU."""

    model: nn.Module
    history: list
    test_logits: torch.Tensor


class Experiment(NamedTuple):
    """What ``run_experiment`` returns; ``alone[i]`` and ``distilled[i]`` are pair i."""

    settings: Settings
    teacher: Trained
    alone: list
    distilled: list
    results: dict  # a summary of each kind of network
    gain: dict  # what distillation saves


def has_bfloat16():
    """Whether this CPU has instructions for bfloat16, as far as this torch can tell."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return found.get("amx_bf16", False) or found.get("avx512_bf16", False)


def train_teacher(train_set, test_set, settings=Settings(), progress=lambda line: None):
    """Train a TeacherCNN of the size that images and classes need, and return a ``Trained``."""
    images = train_set[0]
    classes = 1 + max(int(train_set[1].max()), int(test_set[1].max()))
    torch.manual_seed(settings.seed)
    teacher = TeacherCNN(settings.teacher_channels, images.shape[1:], classes).to(images.device)
    bfloat16 = settings.bf16 == 1 and images.device.type == "cpu" and has_bfloat16()
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
    return Trained(teacher.eval(), history, predict(teacher, test_set[0]).cpu())


def run_experiment(
    train_set,  # as for train: any size, any number of classes, any device
    test_set,
    settings=Settings(),
    teacher=None,  # your trained nn.Module; None: train a TeacherCNN
    new_student=None,  # makes an untrained student, to be copied; None: a StudentMLP
    progress=lambda line: None,  # as for train
):
    """Train a teacher, unless given, and pairs of students: one alone, one distilled."""
    check_data(train_set, test_set)
    images = train_set[0]
    if teacher is None:
        progress("\nTeacher")
        trained = train_teacher(train_set, test_set, settings, progress)
    else:
        trained = Trained(teacher, [], predict(teacher, test_set[0]).cpu())
    teacher_logits = soft_labels(trained.model, images, settings.student_shift)
    student_sizes = ((settings.student_hidden,), images.shape[1:], teacher_logits.shape[-1])
    distillation_loss = DistillationLoss(settings.temperature, settings.alpha)
    alone = []
    distilled = []
    for seed in range(settings.seed, settings.seed + settings.runs):
        for way, students in (("alone", alone), ("distilled", distilled)):
            progress(f"\nStudent {way}, seed {seed}")
            torch.manual_seed(seed)  # the same weights and dropout both ways
            student = copy.deepcopy(new_student()) if new_student else StudentMLP(*student_sizes)
            history = train(
                student.to(images.device),
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
            students.append(Trained(student.eval(), history, predict(student, test_set[0]).cpu()))
    results = {
        "teacher": summarize([trained], test_set),
        "student_alone": summarize(alone, test_set),
        "student_distilled": summarize(distilled, test_set),
    }
    gain = compare(alone, distilled, test_set[1])
    return Experiment(settings, trained, alone, distilled, results, gain)


def shift_errors(model, test_set):
    """Per cent wrong of up to 2,000 test images, shifted by 0 to 4 pixels in 8 directions."""
    images, labels = [part[:: math.ceil(len(part) / 2000)] for part in test_set]
    directions = [by for by in all_shifts(1) if by != (0, 0)]
    wrong = []
    for n in range(5):
        moves = {(n * down, n * right) for down, right in directions}  # a set: one if n is 0
        accuracies = [accuracy(predict(model, shift(images, *by)), labels) for by in moves]
        wrong.append(float(100 - 100 * np.mean(accuracies)))
    return wrong


def measure(trained, test_set):
    """The results of one ``Trained`` network, ready for JSON."""
    model, history, logits = trained
    labels = test_set[1].cpu()
    answers = logits.argmax(1)
    with FlopCounterMode(display=False) as counter:
        predict(model, test_set[0][:1])
    counts = metrics.confusion_matrix(labels, answers, labels=range(logits.shape[1]))
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,  # each is two operations
        "accuracy": accuracy(logits, labels),
        "errors": int((answers != labels).sum()),
        "nll": F.cross_entropy(logits.double(), labels).item(),  # negative log-likelihood
        "confusion_matrix": counts.tolist(),
        "shift_errors": shift_errors(model, test_set),
        "layers": str(model).splitlines(),
        "history": history,
    }


def summarize(networks, test_set):
    """``measure`` each of several ``Trained`` networks and add mean and standard deviation."""
    runs = [measure(trained, test_set) for trained in networks]
    mean = {}
    sd = {}
    for key in ("accuracy", "errors", "nll"):
        values = [run[key] for run in runs]
        mean[key] = float(np.mean(values))
        sd[key] = float(np.std(values, ddof=1)) if len(runs) > 1 else None
    return {"runs": runs, "mean": mean, "sd": sd}


def compare(alone, distilled, labels):
    """The gain of distillation over pairs of ``Trained`` students, and whether it may be chance.

    Several pairs are judged by a 95 % t interval, one by McNemar's exact test (1947): where just
    one of two equally good students is right, each has an even chance of being that one.
    """
    labels = labels.cpu()
    right_alone = torch.stack([s.test_logits.argmax(1) == labels for s in alone])  # (pairs, N)
    right_distilled = torch.stack([s.test_logits.argmax(1) == labels for s in distilled])
    saved = (right_distilled.sum(1) - right_alone.sum(1)).double().numpy()  # errors saved, per pair
    errors = float(saved.mean())
    point = 100 / len(labels)  # one error, in points of accuracy
    gain = {"pairs": len(saved), "errors": errors, "points": point * errors}
    gain.update(p_value=None, interval=None)
    if len(saved) == 1:
        one_right = int((right_alone != right_distilled).sum())
        only_distilled = int((right_distilled & ~right_alone).sum())
        gain["p_value"] = float(stats.binomtest(only_distilled, max(1, one_right)).pvalue)
        significant = gain["p_value"] < 0.05
    else:
        margin = float(stats.t.ppf(0.975, len(saved) - 1) * stats.sem(saved))
        gain["interval"] = [point * (errors - margin), point * (errors + margin)]
        significant = 0 < margin < abs(errors)  # 0: no spread to judge by
    better = "better" if errors > 0 else "worse"
    gain["verdict"] = better if significant else "no difference shown"
    return gain


def results_table(results, gain=None):
    """Text: a table of the summaries ``{name: summary}``, and what distillation saves."""
    lines = [f"{'':18}  weights  mult-adds  accuracy         errors     NLL"]
    for name, summary in results.items():
        first = summary["runs"][0]
        mean = summary["mean"]
        sd = summary["sd"]["errors"]
        errors = f"{mean['errors']:.0f}" if sd is None else f"{mean['errors']:.1f} +/- {sd:.1f}"
        lines.append(
            f"{name.replace('_', ' '):18}{first['parameters']:9,}{first['multiply_adds']:11,}"
            f"{mean['accuracy']:10.2%}{errors:>15}{mean['nll']:8.3f}"
        )
    if gain:
        saved = f"{gain['errors']:.4g} errors ({gain['points']:+.2f} points)"
        lines += ["", f"Distillation saves {saved}: {gain['verdict']}"]
        if gain["interval"] is None:
            lines.append(f"exact McNemar test, p = {gain['p_value']:.2g}; use --runs to be surer")
        else:
            low, high = gain["interval"]
            lines.append(f"{gain['pairs']} pairs, 95 % interval: {low:+.2f} to {high:+.2f} points")
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


def check_data(train_set, test_set, teacher_logits=None, distillation_loss=None, max_shift=0):
    """``TypeError`` or ``ValueError``, with one line, if ``train`` cannot work with these."""
    for data in (train_set, test_set):
        if len(data) != 2 or not all(map(torch.is_tensor, data)):
            raise TypeError("each data set must be (images, labels), two torch tensors")
        images, labels = data
        types_fit = images.dtype == torch.float32 and labels.dtype == torch.int64
        shapes_fit = images.dim() == 4 and labels.shape == images.shape[:1]
        if not types_fit or not shapes_fit or (labels < 0).any():
            found = [(tensor.shape, tensor.dtype) for tensor in data]
            raise ValueError(f"need float32 (N, channels, H, W), int64 (N,) from 0, not {found}")
    if teacher_logits is None and distillation_loss is not None:
        raise ValueError("distillation_loss needs teacher_logits: see soft_labels")
    shape = (len(all_shifts(max_shift)), len(train_set[0]))
    if teacher_logits is not None and teacher_logits.shape[:2] != shape:
        raise ValueError(f"need teacher_logits {(*shape, 'C')}, not {teacher_logits.shape}")


def load_mnist(data_dir="data"):
    """MNIST as two sets ``(images, labels)``, for training and testing; downloaded if missing.

    Images are ``(N, 1, 28, 28)``, 0 for paper and 1 for ink. ``OSError`` if unavailable.
    """
    from torchvision.datasets import MNIST  # only here: the import takes a second

    mirror = "https://storage.googleapis.com/cvdf-datasets/mnist/"
    if mirror not in MNIST.mirrors:
        MNIST.mirrors.append(mirror)
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds; without it, a silent server blocks
    try:
        sets = [MNIST(data_dir, is_train, download=True) for is_train in (True, False)]
        for part, n in zip(sets, (60_000, 10_000)):
            if not (len(part.data) == len(part.targets) == n and part.targets.max() <= 9):
                raise ValueError(f"expected {n} images and labels from 0 to 9")
    except Exception as error:  # a network or a file can fail in any way
        reason = " ".join(str(error).split())
        names = ", ".join(name.removesuffix(".gz") for name, _ in MNIST.resources)
        advice = f"empty it and put these files there, gzipped or not: {names}"
        raise OSError(f"no MNIST in {data_dir}/MNIST/raw ({reason}); {advice}") from error
    finally:
        socket.setdefaulttimeout(previous)
    return [(part.data[:, None] / 255, part.targets) for part in sets]


def load_small_digits():
    """scikit-learn's digits at MNIST's size; test set: the last 597, mostly by new writers."""
    images, labels = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    images = F.pad(F.interpolate(images, size=(20, 20), mode="bilinear"), [4] * 4)
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
            print(f"WARNING: small digits are used, NOT MNIST: {error}\n", file=sys.stderr)
    return "digits", *load_small_digits()


def hold_out(data, n, seed=0):
    """Split ``(images, labels)`` into the rest and ``n``, with the same share of each class."""
    images, labels = data
    rest, held, rest_labels, held_labels = train_test_split(
        images, labels, test_size=n, random_state=seed, stratify=labels
    )
    return (rest, rest_labels), (held, held_labels)


# =================================================================== figures and files


def draw_confusion(labels, logits, title, class_names=None):
    """A Figure that counts true against predicted classes; the errors are shaded red."""
    names = range(logits.shape[1]) if class_names is None else class_names
    ticks = np.arange(logits.shape[1]) + 0.5
    answers = logits.argmax(1).cpu()
    counts = metrics.confusion_matrix(labels.cpu(), answers, labels=range(logits.shape[1]))
    errors = counts - np.diag(np.diag(counts))
    text = np.where(counts, counts, "").astype(str)
    figure = Figure((7, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    seaborn.heatmap(errors, annot=text, fmt="", cmap="Reds", cbar=False, yticklabels=False, ax=axes)
    axes.set_title(f"{title}: {errors.sum():,} errors in {len(labels):,}")
    axes.set(xlabel="predicted", xticks=ticks, xticklabels=names)
    axes.set(ylabel="true", yticks=ticks, yticklabels=names)
    return figure


def draw_curves(curves, first, xlabel, ylabel, title):
    """A Figure of the means of ``{name: [values of each run]}`` over first, first + 1, ..."""
    x = []
    y = []
    names = []
    for name, runs in curves.items():
        for run in runs:
            x += range(first, first + len(run))
            y += run
            names += [name] * len(run)
    figure = Figure((7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    seaborn.lineplot(x=x, y=y, hue=names, style=names, markers=True, errorbar="sd", ax=axes)
    axes.legend(title="mean, and standard deviation over runs")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    return figure


def draw_figures(experiment, test_set, title, class_names=None):
    """The three Figures of an ``Experiment``, by name."""
    by_epoch = {}
    by_shift = {}
    for name, summary in experiment.results.items():
        runs = summary["runs"]
        label = name.replace("_", " ")
        by_shift[label] = [run["shift_errors"] for run in runs]
        by_epoch[label] = [[100 - 100 * e["test_accuracy"] for e in run["history"]] for run in runs]
    logits = experiment.distilled[0].test_logits
    wrong = "wrong answers on test images, %"
    confusion = draw_confusion(test_set[1], logits, f"{title}, distilled student", class_names)
    return {
        "confusion_matrix": confusion,
        "training_curves": draw_curves(by_epoch, 1, "epoch", wrong, title),
        "shifted_images": draw_curves(by_shift, 0, "shift in pixels", wrong, title),
    }


def save(experiment, figures, facts, folder, prefix):
    """Write results, weights of the first networks, figures; delete those of an earlier run."""
    report = {"run": facts, "settings": asdict(experiment.settings)}
    report.update(experiment.results, gain=experiment.gain)
    networks = (experiment.teacher, experiment.alone[0], experiment.distilled[0])
    with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=folder) as unfinished:
        start = f"{unfinished}/{prefix}"
        Path(f"{start}_results.json").write_text(json.dumps(report, indent=1, allow_nan=False))
        for name, figure in figures.items():
            figure.savefig(f"{start}_{name}.png")
        for name, trained in zip(experiment.results, networks):
            weights = {key: weight.cpu() for key, weight in trained.model.state_dict().items()}
            torch.save(weights, f"{start}_{name}.pt")
        files = list(Path(unfinished).iterdir())
        for file in files:  # all old ones go before a new one comes: they never mix
            Path(folder, file.name).unlink(missing_ok=True)
        for file in files:
            file.replace(Path(folder, file.name))


# ======================================================================== command line


def show_epoch(record, epochs, progress):
    """Give ``progress`` a line about this epoch; if there are many, only about some of them."""
    if (epochs - record["epoch"]) % max(1, epochs // 20) == 0:  # always for the last
        result = f"loss {record['loss']:.4f}   test accuracy {record['test_accuracy']:.2%}"
        progress(f"  epoch {record['epoch']}/{epochs}   {result}   {record['seconds']:.2f} s")


def build_parser():
    """Options for ``Settings``, absent unless typed, and options for data and files."""
    usage = "python kd_mnist.py [options] (--help lists them)"
    description = "Train a teacher, and a student alone and distilled, on MNIST if possible."
    parser = argparse.ArgumentParser(usage=usage, description=description, allow_abbrev=False)
    for f in fields(Settings):
        flag = "--" + f.name.replace("_", "-")
        help = f"{f.metadata['help']} (for MNIST: {f.default})"
        parser.add_argument(flag, type=f.type, default=argparse.SUPPRESS, help=help)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--dataset", default="auto", choices=("auto", "mnist", "digits"))
    parser.add_argument("--data-dir", type=Path, default="data", help="holds MNIST/raw")
    parser.add_argument("--holdout", type=int, help="number of training images to test on")
    parser.add_argument("--teacher", type=Path, help="weights of a trained teacher")
    parser.add_argument("--out-dir", type=Path, default=".", help="folder for results")
    parser.add_argument("--device", default=device, help="cpu, cuda or cuda:1")
    return parser


def run_command(argv):
    """Carry out the command line ``argv``: load, train, compare, print and save."""
    started = time.perf_counter()
    parser = build_parser()
    args = parser.parse_args(argv)
    typed = {f.name: getattr(args, f.name) for f in fields(Settings) if hasattr(args, f.name)}
    teacher = None
    try:
        settings = Settings(**typed)
        torch.zeros(1, device=args.device).cpu()  # does the device work?
        if args.teacher:
            if not is_zipfile(args.teacher):
                raise ValueError(f"--teacher: {args.teacher} is no file of torch.save")
            teacher = TeacherCNN(settings.teacher_channels).to(args.device)
            teacher.load_state_dict(torch.load(args.teacher, "cpu", weights_only=True))
        args.out_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out_dir).close()  # can we write there?
        name, train_set, test_set = load_data(args.dataset, args.data_dir)
        if args.holdout is not None:
            train_set, test_set = hold_out(train_set, args.holdout)
    except UnpicklingError:
        parser.error(f"--teacher: {args.teacher} must hold a state_dict, not a model")
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        parser.error(" ".join(str(error).split())[:400])
    train_set = [part.to(args.device) for part in train_set]
    test_set = [part.to(args.device) for part in test_set]
    title = "MNIST" if name == "mnist" else "small digits, not MNIST"
    title += ", held-out images" if args.holdout else ""
    if name == "digits":
        settings = replace(SMALL_DIGITS_SETTINGS, **typed)
    data = f"{title}: {len(train_set[1]):,} training images, {len(test_set[1]):,} to test on"
    print(f"{data}\nSettings changed: {typed or 'none'}")
    if Path(args.out_dir, f"{name}_results.json").exists():
        print(f"Replacing {name}_* of an earlier run")
    experiment = run_experiment(train_set, test_set, settings, teacher, progress=print)
    print(f"\n{results_table(experiment.results, experiment.gain)}")
    seconds = time.perf_counter() - started
    facts = {"data": data, "teacher_file": str(args.teacher or "none"), "seconds": seconds}
    facts.update(device=args.device, threads=torch.get_num_threads(), torch=torch.__version__)
    with ThreadPoolExecutor() as thread:  # Ctrl-C cannot stop it half-way
        figures = thread.submit(draw_figures, experiment, test_set, title).result()
        thread.submit(save, experiment, figures, facts, args.out_dir, name).result()
    print(f"\n{title}: {name}_* are in", ascii(str(args.out_dir)), f"after {seconds:.0f} s")


def main(argv=None):
    """Run the command line ``argv``, by default this process's own; return its exit code."""
    if argv is None and "kernel_launcher" in sys.argv[0]:
        argv = []  # pasted into a notebook, this file sees the kernel's arguments
    try:
        run_command(argv)
    except KeyboardInterrupt:
        print("\nkd_mnist.py: interrupted", file=sys.stderr)
        return 130
    except (OSError, FloatingPointError) as error:
        print(f"kd_mnist.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if exit_code := main():  # a notebook shows even exit(0) as an error
        sys.exit(exit_code)
