"""Knowledge distillation on MNIST: a fast network learns from a better one.

    python kd_mnist.py              # teacher, student alone, the same student distilled
    python kd_mnist.py --help       # every setting

Train a teacher; look at some of its soft labels; train a student without them; train
the same student with them; compare. The method, down to the end of ``train``, is that
of Hinton, Vinyals and Dean (2015), arXiv:1503.02531. N images, C classes (here 10).
"""

import argparse
import copy
import json
import math
import os
import platform
import shlex
import socket
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import seaborn
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy import stats
from sklearn import datasets, metrics
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# %% The two networks


class TeacherCNN(nn.Module):
    """Two convolutions and one linear layer: ``(N, 1, 28, 28)`` to logits ``(N, 10)``.

    ``image_shape`` is (channels, height, width); ``ValueError`` below 4x4 pixels.
    """

    def __init__(self, channels=16, image_shape=(1, 28, 28), classes=10):
        super().__init__()
        depth, height, width = image_shape
        if min(height, width) < 4:
            raise ValueError(f"images must be at least 4x4, not {height}x{width}")
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

    784 -> 128 -> 10 by default: five times the teacher's weights, a tenth of its
    multiply-adds. ``hidden`` may be several layers: ``(800, 800)``.
    """

    def __init__(self, hidden=128, image_shape=(1, 28, 28), classes=10):
        if isinstance(hidden, int):
            hidden = (hidden,)
        size = math.prod(image_shape)
        layers = [nn.Flatten()]
        for units in hidden:
            layers.append(nn.Linear(size, units))
            layers.append(nn.ReLU())
            size = units
        super().__init__(*layers, nn.Linear(size, classes))


# %% The loss


class DistillationLoss(nn.Module):
    """Learn from soft and hard labels at once: Hinton et al. (2015), section 2.

        alpha * T^2 * KL(p || q) + (1 - alpha) * cross_entropy(student, labels)
        where p = softmax(teacher / T) and q = softmax(student / T)

    A hard label says "7". A soft label, the teacher's probabilities of all classes,
    says "7, but a bit like a 2": that is worth learning. The divergence KL(p || q) says
    how far the student's probabilities q are from the teacher's p: 0 if they are equal.

    A ``temperature`` T above 1 softens p and q, so that small probabilities count. A
    high T makes the gradient about T^2 times smaller; the factor T^2 makes up for that.
    ``alpha``, from 0 to 1, is the *teacher's* weight: 0 ignores the teacher, 1 the hard
    labels. Both terms are means over the N images: ``batchmean``. (``mean``, torch's
    default, would also divide by the C classes.)

    Takes the logits ``(N, C)`` of student and teacher, not probabilities, and int64
    labels ``(N,)``; returns a scalar. No gradient reaches the teacher. ``ValueError``
    if the shapes do not fit, T is not from 0.01 to 1000, or alpha not from 0 to 1.
    """

    def __init__(self, temperature=2.0, alpha=0.5):
        super().__init__()
        if not 0.01 <= temperature <= 1000:
            raise ValueError(f"temperature must be 0.01 to 1000, not {temperature}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be 0 to 1, not {alpha}")
        self.temperature = temperature
        self.alpha = alpha

    def forward(self, student_logits, teacher_logits, labels):
        shape = student_logits.shape
        if len(shape) != 2 or teacher_logits.shape != shape:
            found = f"{tuple(shape)} and {tuple(teacher_logits.shape)}"
            raise ValueError(f"logits must be (N, C) twice, not {found}")
        if labels.shape != shape[:1]:
            found = tuple(labels.shape)
            raise ValueError(f"labels must be ({shape[0]},), not {found}")
        if shape[1] == 1:
            raise ValueError("one class is not enough: write one logit z as (0, z)")
        log_q = F.log_softmax(student_logits / self.temperature, dim=1)
        log_p = F.log_softmax(teacher_logits.detach() / self.temperature, dim=1)
        soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard


# %% Predictions, and moved images


def require(condition, message):
    """Raise ``ValueError(message)`` unless the condition holds."""
    if not condition:
        raise ValueError(message)


@torch.no_grad()
def predict(model, images, batch_size=128):
    """Logits ``(N, C)`` of ``model`` for ``images``, in evaluation mode, as float32.

    ``ValueError`` if the model returns anything else.
    """
    was_training = model.training
    model.eval()
    start = 0
    for batch in images.split(batch_size):
        output = model(batch.clone())  # a model may change its input in place
        fits = torch.is_tensor(output) and output.dim() == 2
        require(fits, "a model must return logits (N, C) and nothing else")
        if start == 0:  # one tensor for all images needs less memory than many
            logits = torch.empty(len(images), output.shape[1], device=output.device)
        logits[start : start + len(batch)] = output
        start += len(batch)
    model.train(was_training)
    torch.clear_autocast_cache()  # for autocast: its copies of weights lack gradients
    return logits


def accuracy(logits, labels):
    """Share of the N images whose largest logit is that of their label."""
    return (logits.argmax(1) == labels).float().mean().item()


def shift(images, down, right):
    """Move images by whole pixels, up or left if negative; new pixels are 0."""
    return F.pad(images, (right, -right, down, -down))  # negative: cut off there


def random_shift(images, max_shift=1):
    """Move a batch by up to ``max_shift`` pixels down or up, and right or left.

    All its images move alike, as in a torchvision transform. The random numbers are
    those of torch's global generator.
    """
    down, right = torch.randint(-max_shift, max_shift + 1, (2,)).tolist()
    return shift(images, down, right)


# %% Checks of what ``train`` is given


def check_data(train_set, test_set):
    """``ValueError`` unless each is images and labels as ``train`` needs them."""
    for name, data in (("training", train_set), ("test", test_set)):
        is_pair = len(data) == 2 and all(torch.is_tensor(part) for part in data)
        require(is_pair, f"the {name} set must be two tensors: images and labels")
        images, labels = data
        found = f"not {images.dtype} {tuple(images.shape)}"
        fits = images.dtype == torch.float32 and images.dim() == 4
        require(fits, f"{name} images: float32 (N, channels, height, width), {found}")
        found = f"not {labels.dtype} {tuple(labels.shape)}"
        fits = labels.dtype == torch.int64 and labels.shape == images.shape[:1]
        require(fits, f"{name} labels: int64 ({len(images)},), {found}")
        require(len(images) > 0, f"there are no {name} images")
        finite = images.sum().isfinite()  # a NaN anywhere makes the sum NaN
        require(finite, f"{name} images are not all finite numbers")
        same = images.shape[1:] == train_set[0].shape[1:]
        require(same, "training and test images must have the same shape")
        require(labels.min() >= 0, f"{name} labels must count from 0")
        in_bytes = images.min() >= 0 and images.max() > 100
        require(not in_bytes, f"{name} images must be from 0 to 1: divide by 255")


def check_logits(logits, n, name):
    """``ValueError`` unless these are finite logits, not probabilities, of n images."""
    shape = tuple(logits.shape)
    require(len(shape) == 2 and shape[0] == n, f"{name} must be ({n}, C), not {shape}")
    require(logits.isfinite().all(), f"{name} are not all finite numbers")
    sums = logits.sum(1)
    is_softmax = logits.min() >= 0 and sums.allclose(torch.ones_like(sums))
    require(
        not is_softmax, f"{name} are probabilities: give logits, or their logarithm"
    )


def check_model(model, train_set, test_set):
    """``ValueError`` if ``model`` gives no logits, or too few for the labels."""
    is_network = isinstance(model, nn.Module)
    require(is_network, f"a model must be an nn.Module, not {type(model).__name__}")
    logits = predict(model, train_set[0][:2])
    check_logits(logits, len(train_set[0][:2]), "the model's logits")
    classes = logits.shape[1]
    highest = max(train_set[1].max().item(), test_set[1].max().item())
    require(highest < classes, f"label {highest}, but the model has {classes} outputs")


def check_training(model, train_set, test_set, teacher_logits, transform, optimizer):
    """``ValueError`` if ``train`` cannot use these, or not together."""
    check_data(train_set, test_set)
    check_model(model, train_set, test_set)
    if teacher_logits is not None:
        check_logits(teacher_logits, len(train_set[0]), "teacher_logits")
        reason = "teacher_logits belong to images as they are, without transform"
        require(transform is None, f"{reason}: ask the teacher in a loop of your own")
    if optimizer is not None:
        weights = set(model.parameters())
        groups = optimizer.param_groups
        is_ours = any(weights.intersection(group["params"]) for group in groups)
        require(is_ours, "the optimizer holds none of the model's parameters")


# %% Training


def print_epoch(record, epochs, loss_name):
    """Print a line about this epoch; at most 20 lines in all."""
    epochs_left = epochs - record["epoch"]
    if epochs_left % math.ceil(epochs / 20) == 0:  # always true for the last one
        line = f"  epoch {record['epoch']:2}/{epochs}   "
        line += f"{loss_name} {record['loss']:.4f}"
        line += f"   test accuracy {record['test_accuracy']:.2%}"
        print(f"{line}   {record['seconds']:.1f} s", flush=True)


def train(
    model,
    train_set,  # images (N, channels, height, width) float32; labels (N,) int64
    test_set,  # the same; evaluated after each epoch, never used to choose anything
    *,
    epochs,
    teacher_logits=None,  # (N, C), from predict(teacher, images); None: labels alone
    distillation_loss=None,  # f(logits, teacher_logits, labels), only to distil
    transform=None,  # changes each batch of images: random_shift, for example
    seed=0,  # orders the images: models with the same seed see the same batches
    batch_size=128,  # at most; the batches of an epoch are nearly equal in size
    lr=7e-3,  # one cycle: Adam's rate rises to lr, then falls (Smith and Topin 2018)
    optimizer=None,  # your own, used as it is, without lr and the cycle
    verbose=True,
):
    """Train ``model``, alone or distilled, and return its history: a record per epoch.

    ``ValueError`` if something is not as described here, ``FloatingPointError`` if
    training diverges.
    """
    check_training(model, train_set, test_set, teacher_logits, transform, optimizer)
    distillation_loss = distillation_loss or DistillationLoss()
    loss_name = "cross-entropy" if teacher_logits is None else "distillation loss"
    images, labels = train_set
    steps = math.ceil(len(images) / batch_size)  # in each epoch
    schedule = None
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    generator = torch.Generator().manual_seed(int(seed))  # nothing else draws from it
    history = []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        total_loss = 0.0
        model.train()
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for batch in order.tensor_split(steps):  # indices of images
            x = images[batch]
            if transform is not None:
                x = transform(x)
            logits = model(x)
            if teacher_logits is None:  # alone
                loss = F.cross_entropy(logits, labels[batch])
            else:  # distilled
                loss = distillation_loss(logits, teacher_logits[batch], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.clear_autocast_cache()  # for autocast: its copies of weights are old
            if schedule is not None:
                schedule.step()
            total_loss += loss.detach() * len(batch)  # .item() would wait for a GPU
        record = {"epoch": epoch, "loss": float(total_loss) / len(images)}
        record["seconds"] = time.perf_counter() - started
        test_logits = predict(model, test_set[0])
        record["test_accuracy"] = accuracy(test_logits, test_set[1])
        if not math.isfinite(record["loss"]) or not test_logits.isfinite().all():
            raise FloatingPointError(f"epoch {epoch}: not finite: use a lower lr")
        history.append(record)
        if verbose:
            print_epoch(record, epochs, loss_name)
    model.eval()
    return history


# %% The teacher's soft labels


def clear_to_doubtful(logits, labels):
    """Indices of four images, from clear to doubtful for the network.

    If possible, the network is right about them, and they are of four classes.
    """
    largest, predicted = logits.softmax(1).max(1)
    penalty = (predicted != labels).float()
    chosen = []
    for probability in (0.999, 0.9, 0.7, 0.5):
        i = ((largest - probability).abs() + penalty).argmin().item()
        penalty[labels == labels[i]] += 1  # another class next time, if possible,
        penalty[i] += 1  # if not, at least another image
        chosen.append(i)
    return chosen


def print_soft_labels(logits, labels, temperature):
    """Print the three largest probabilities for four images, at T = 1 and softened."""
    print("\nThe teacher's soft labels of four training images (class: probability)")
    for i in clear_to_doubtful(logits, labels):
        for t in sorted({1.0, temperature}):
            p = (logits[i].cpu() / t).softmax(0)
            line = f"  label {labels[i].item()}   T = {t:<4g}"
            for k in p.argsort(descending=True)[:3]:
                line += f"   {k}: {p[k]:.3f}"
            print(line)
    sure = (logits.softmax(1).amax(1) > 0.9).float().mean().item()
    print(f"  (Picked: for {sure:.0%} of the images, one probability exceeds 0.9.)")


# %% The experiment


def setting(default, help):
    """A field of ``Settings`` and the text that ``--help`` shows for it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """What an experiment depends on besides its data; ``ValueError`` if impossible."""

    temperature: float = setting(2.0, "T: how much the soft labels are softened")
    alpha: float = setting(0.5, "weight of the soft labels in the loss, from 0 to 1")
    runs: int = setting(1, "pairs of students, one alone and one distilled")
    seed: int = setting(
        0, "seed of the teacher and the first pair; next pair: seed + 1"
    )
    batch_size: int = setting(128, "images in a training step")
    lr: float = setting(7e-3, "highest learning rate, for each network")
    teacher_channels: int = setting(16, "channels of the teacher's first convolution")
    teacher_epochs: int = setting(5, "how often the teacher sees its training images")
    teacher_shift: int = setting(
        1, "largest move of the teacher's images, 0 to 4 pixels"
    )
    student_hidden: int = setting(128, "units in the students' hidden layer")
    student_epochs: int = setting(20, "how often a student sees its training images")

    def __post_init__(self):
        DistillationLoss(self.temperature, self.alpha)  # checks both
        require(self.lr > 0, f"lr must be above 0, not {self.lr}")
        require(self.teacher_shift in range(5), "teacher_shift must be 0 to 4")
        for f in fields(self):
            if f.type is int and f.name not in ("seed", "teacher_shift"):
                value = getattr(self, f.name)
                is_count = isinstance(value, (int, np.integer)) and value > 0
                require(is_count, f"{f.name} must be a whole number from 1")


def train_teacher(train_set, test_set, settings, classes):
    """Train a TeacherCNN on moved images; return it and its history."""
    pixels = settings.teacher_shift
    print("\nteacher")
    if pixels > 0:
        print(f"  It sees moved images (up to {pixels} pixel; in the 2015 paper, 2);")
        print("  the students never do. Column 'moved': errors on moved images.")
    images = train_set[0]
    torch.manual_seed(settings.seed)  # of the initial weights and of the moves
    teacher = TeacherCNN(settings.teacher_channels, images.shape[1:], classes)
    history = train(
        teacher.to(images.device),
        train_set,
        test_set,
        epochs=settings.teacher_epochs,
        transform=lambda batch: random_shift(batch, pixels),
        seed=settings.seed,
        batch_size=settings.batch_size,
        lr=settings.lr,
    )
    return teacher, history


def milliseconds(network, images):
    """Milliseconds that ``network`` takes for 1,000 images: the best of three."""
    images = images[:1000]
    predict(network, images)  # the first time takes longer
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        predict(network, images).cpu()  # .cpu() waits until a GPU has finished
        best = min(best, time.perf_counter() - started)
    return 1000 * best * 1000 / len(images)


def measure(name, seed, network, history, test_set, teacher_logits):
    """A record of a trained network: numbers and lists, for JSON.

    ``teacher_logits`` are here those for the *test* images.
    """
    images = test_set[0]
    labels = test_set[1].cpu()
    logits = predict(network, images).cpu()
    moved_logits = predict(network, shift(images, down=1, right=1)).cpu()
    predicted = logits.argmax(1)
    classes = range(logits.shape[1])
    counts = metrics.confusion_matrix(labels, predicted, labels=classes)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    with FlopCounterMode(display=False) as counter:
        predict(network, images[:1])
    return {
        "network": name,
        "seed": seed,
        "weights": sum(weight.numel() for weight in network.parameters()),
        # Of convolutions and linear layers, for one image; each is two operations.
        "multiply_adds": counter.get_total_flops() // 2,
        "milliseconds": milliseconds(network, images),  # for 1,000 images
        "accuracy": accuracy(logits, labels),
        "errors": int((predicted != labels).sum()),
        # On the same images, moved one pixel down and one to the right.
        "errors_moved": int((moved_logits.argmax(1) != labels).sum()),
        # Share of the images for which it predicts the teacher's class.
        "agreement": accuracy(logits, teacher_logits.argmax(1).cpu()),
        # Mean of -log(probability of the label).
        "nll": F.cross_entropy(logits.double(), labels).item(),
        "confusion_matrix": counts.tolist(),  # a row for each true class
        "precision": precision.tolist(),  # of each class
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "history": history,
    }


def student_and_loss(train_set, test_set, settings, classes, new_student, loss):
    """A function that makes students, and the loss: the caller's own or the default.

    Both are tried here, so that errors come before the teacher is trained.
    """
    images, labels = train_set
    if new_student is None:
        new_student = partial(
            StudentMLP,
            hidden=settings.student_hidden,
            image_shape=images.shape[1:],
            classes=classes,
        )
    if loss is None:
        loss = DistillationLoss(settings.temperature, settings.alpha)
    is_network = isinstance(new_student, nn.Module)
    require(not is_network, "new_student must be a function that makes a network")
    student = new_student().to(images.device)
    check_model(student, train_set, test_set)
    logits = predict(student, images[:2])
    teacher_logits = torch.zeros(len(logits), classes, device=logits.device)
    loss(logits, teacher_logits, labels[:2])  # does it take them?
    return new_student, loss


def run_experiment(
    train_set,  # as for train: any size, any number of classes, on any device
    test_set,
    settings=Settings(),
    teacher=None,  # your own, trained; None: a TeacherCNN is trained
    new_student=None,  # a function that makes your own; None: a StudentMLP
    distillation_loss=None,  # your own; None: DistillationLoss, as in settings
):
    """Train a teacher, and each student twice: without its logits and with them.

    Returns the trained networks, ``{(name, seed): network}``, and a record of each.
    """
    check_data(train_set, test_set)
    images, labels = train_set
    classes = 1 + max(labels.max().item(), test_set[1].max().item())
    if teacher is not None:
        check_model(teacher, train_set, test_set)
        classes = predict(teacher, images[:1]).shape[1]
    new_student, distillation_loss = student_and_loss(
        train_set, test_set, settings, classes, new_student, distillation_loss
    )
    history = []
    if teacher is None:
        teacher, history = train_teacher(train_set, test_set, settings, classes)
    teacher_logits = predict(teacher, images)  # once: they never change
    check_logits(teacher_logits, len(images), "the teacher's logits")
    print_soft_labels(teacher_logits[:5000], labels[:5000], settings.temperature)
    first = int(settings.seed)
    test_logits = predict(teacher, test_set[0])
    networks = {("teacher", first): teacher}
    records = [measure("teacher", first, teacher, history, test_set, test_logits)]
    for seed in range(first, first + settings.runs):
        torch.manual_seed(seed)
        untrained = new_student().to(images.device)
        for name, logits in (
            ("student alone", None),
            ("student distilled", teacher_logits),
        ):
            print(f"\n{name}, seed {seed}")
            student = copy.deepcopy(untrained)  # the same initial weights,
            torch.manual_seed(seed)  # the same dropout, if it has any,
            history = train(
                student,
                train_set,
                test_set,
                epochs=settings.student_epochs,
                teacher_logits=logits,
                distillation_loss=distillation_loss,
                seed=seed,  # and the same batches
                batch_size=settings.batch_size,
                lr=settings.lr,
            )
            networks[name, seed] = student
            records.append(measure(name, seed, student, history, test_set, test_logits))
    return networks, records


# %% Its results


def results_table(records):
    """Text: a line for each kind of network, with the means over its records."""
    text = f"{'':18}{'weights':>9}{'mult-adds':>11}{'ms':>7}"
    text += f"{'accuracy':>10}{'errors':>8}{'moved':>8}{'NLL':>7}\n"
    for name in dict.fromkeys(record["network"] for record in records):
        same = [record for record in records if record["network"] == name]
        mean = {}
        for key in ("milliseconds", "accuracy", "errors", "errors_moved", "nll"):
            mean[key] = float(np.mean([record[key] for record in same]))
        text += f"{name:18}{same[0]['weights']:9,}{same[0]['multiply_adds']:11,}"
        text += f"{mean['milliseconds']:7.1f}{mean['accuracy']:10.2%}"
        text += f"{mean['errors']:8,.0f}{mean['errors_moved']:8,.0f}"
        text += f"{mean['nll']:7.3f}\n"
    text += "  mult-adds: for one image; ms: milliseconds for 1,000 images\n"
    text += "  moved: errors if each image is moved one pixel down and one right\n"
    return text + "  NLL: mean of -log(probability of the label)"


def compare(networks, test_set):
    """What distillation saves: a dictionary of means over the pairs of students.

    ``interval`` is the 95 % interval of the mean (t distribution) over several pairs.
    """
    images, labels = test_set
    right = {}
    for (name, _), network in networks.items():
        is_right = predict(network, images).argmax(1) == labels
        right.setdefault(name, []).append(is_right.cpu())
    alone = torch.stack(right["student alone"])  # (pairs, N)
    distilled = torch.stack(right["student distilled"])
    only_alone = (alone & ~distilled).sum(1).numpy()  # images, for each pair
    only_distilled = (distilled & ~alone).sum(1).numpy()
    saved = only_distilled - only_alone
    behind = right["teacher"][0].sum() - alone.sum(1).double().mean()  # right answers
    gain = {
        "pairs": len(saved),
        "errors_saved": float(saved.mean()),
        "errors_behind_teacher": behind.item(),  # of the student alone
        "only_distilled": float(only_distilled.mean()),
        "only_alone": float(only_alone.mean()),
        "interval": None,
    }
    if len(saved) > 1:
        margin = float(stats.t.ppf(0.975, len(saved) - 1) * stats.sem(saved))
        mean = gain["errors_saved"]
        gain["interval"] = [mean - margin, mean + margin]
    return gain


def gain_text(gain):
    """Text: the gain in sentences, and whether it may be luck."""
    behind = gain["errors_behind_teacher"]
    text = f"The student alone makes {behind:,.0f} more errors than the teacher.\n"
    if behind <= 0:
        text = "The teacher is no better than the student alone.\n"
    text += f"Distillation saves {round(gain['errors_saved'], 1):,g} errors.\n"
    won = f"{gain['only_distilled']:,.0f}"
    lost = f"{gain['only_alone']:,.0f}"
    text += f"{won} images are read right only with distillation, "
    text += f"{lost} only without.\n"
    if gain["interval"] is None:
        return text + "One pair of students may be luck: --runs 5 trains five pairs."
    low, high = gain["interval"]
    verdict = "no difference is shown"
    if 0 < low < high:  # low = high tells nothing: all pairs saved the same number
        verdict = "distillation helps"
    if low < high < 0:
        verdict = "distillation hurts"
    interval = f"{low:.1f} to {high:.1f} errors saved"
    text += f"{gain['pairs']} pairs with this teacher, 95 % interval {interval}:\n"
    return text + f"{verdict}."


def first_images_text(networks, test_set, n=5):
    """Text: labels of the first test images, and what the first networks predict."""
    images, labels = test_set
    predicted = {"label": labels[:n]}
    for (name, _), network in networks.items():
        predicted.setdefault(name, predict(network, images[:n]).argmax(1))
    text = f"The first {n} test images"
    for name, classes in predicted.items():
        text += f"\n  {name:18}" + "".join(f"{k:5}" for k in classes.cpu())
    return text


# %% Figures


def class_ticks(names):
    """At most 20 tick positions and labels; of more classes, every n-th."""
    step = math.ceil(len(names) / 20)
    return range(0, len(names), step), names[::step]


def draw_soft_labels(images, labels, logits, temperature=2.0, title="", names=None):
    """A Figure of four images, from clear to doubtful, and a network's soft labels.

    ``logits`` ``(N, C)`` are its own for all N images; ``names`` are of the classes.
    """
    classes = logits.shape[1]
    names = range(classes) if names is None else names
    rotation = 90 if max(len(str(name)) for name in names) > 2 else 0
    temperatures = sorted({1.0, temperature})
    figure = Figure((9, 2.5 + 1.9 * len(temperatures)), dpi=150, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(1 + len(temperatures), 4, sharey="row")
    for i, column in zip(clear_to_doubtful(logits, labels), grid.T):
        picture, *charts = column
        picture.imshow(images[i].permute(1, 2, 0).cpu().numpy(), cmap="gray_r")
        picture.set(xticks=[], yticks=[], title=f"label {names[labels[i]]}")
        for t, axes in zip(temperatures, charts):
            p = (logits[i].cpu() / t).softmax(0).tolist()
            axes.bar(range(classes), p, color="0.7", edgecolor="black")
            axes.set_xticks(*class_ticks(names), rotation=rotation)
            axes.set(ylim=(0, 1.18), yticks=(0, 0.5, 1))
            for k in range(classes):
                if p[k] > 0.05:
                    text = f"{p[k]:.2f}".lstrip("0")
                    axes.text(k, p[k] + 0.03, text, ha="center", fontsize=8)
    for t, axes in zip(temperatures, grid[1:, 0]):
        axes.set_ylabel(f"T = {t:g}")
    return figure


def draw_curves(records, title=""):
    """A Figure of the test error after each epoch; a flat line without history."""
    epochs = []
    percent = []
    names = []
    figure = Figure((7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for record in records:
        for epoch in record["history"]:
            epochs.append(epoch["epoch"])
            percent.append(100 - 100 * epoch["test_accuracy"])
            names.append(record["network"])
        if not record["history"]:
            error = 100 - 100 * record["accuracy"]
            axes.axhline(error, color="black", label=record["network"])
    seaborn.lineplot(
        x=epochs,
        y=percent,
        hue=names,
        style=names,
        markers=True,
        errorbar="sd",
        ax=axes,
    )
    several = len({record["seed"] for record in records}) > 1
    axes.legend(title="mean and standard deviation over pairs" if several else None)
    axes.set(xlabel="epoch", ylabel="test error, %", title=title)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)
    return figure


def draw_confusion(matrices, names=None):
    """A Figure of confusion matrices, ``{title: counts}``, true against predicted.

    Colour shows the errors, on one scale for all. Counts are written up to 20 classes.
    """
    figure = Figure((7, 6.2 * len(matrices)), dpi=150, layout="constrained")
    grid = figure.subplots(len(matrices), squeeze=False)
    errors = {}
    for title, counts in matrices.items():
        errors[title] = np.array(counts) - np.diag(np.diag(counts))
    highest = max(wrong.max() for wrong in errors.values())
    for axes, (title, counts) in zip(grid.flat, matrices.items()):
        counts = np.array(counts)
        classes = len(counts)
        positions, labels = class_ticks(range(classes) if names is None else names)
        seaborn.heatmap(
            errors[title],
            vmin=0,
            vmax=max(1, highest),
            cmap="Reds",
            cbar=False,
            annot=np.where(counts, counts, "").astype(str) if classes <= 20 else None,
            fmt="",
            xticklabels=False,  # set below, fewer if there are many classes
            yticklabels=False,
            ax=axes,
        )
        axes.set_xticks(np.add(positions, 0.5), labels)
        axes.set_yticks(np.add(positions, 0.5), labels, rotation=0)
        axes.set(xlabel="predicted", ylabel="true", title=title)
    return figure


# %% Data


def one_line(error):
    """The text of an error without its line breaks, shortened if it is very long."""
    return " ".join(str(error).split())[:1000]


def load_mnist(data_dir="data"):
    """MNIST as two sets ``(images, labels)``, downloaded if missing.

    Images are ``(N, 1, 28, 28)``, 0 for paper, 1 for ink. ``OSError`` if unavailable.
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
            sizes_fit = len(part.data) == len(part.targets) == n
            require(sizes_fit and part.targets.max() <= 9, f"not {n} images")
    except Exception as error:  # a network or a file can fail in any way
        names = ", ".join(name.removesuffix(".gz") for name, _ in MNIST.resources)
        problem = f"no MNIST in {data_dir}/MNIST/raw ({one_line(error)})"
        advice = f"empty it and put these files there, gzipped or not: {names}"
        raise OSError(f"{problem}; {advice}") from error
    finally:
        socket.setdefaulttimeout(previous)
    images = [part.data[:, None].float().div_(255) for part in sets]  # in place
    return [(x, part.targets.long()) for x, part in zip(images, sets)]


def load_small_digits():
    """scikit-learn's digits, enlarged to 28x28 pixels: 1,200 to train, 597 to test.

    The last images of its file are for testing; most are by writers not trained on.
    """
    images, labels = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    images = F.pad(F.interpolate(images, size=(20, 20), mode="bilinear"), [4] * 4)
    labels = torch.from_numpy(labels).long()
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def load_data(dataset="auto", data_dir="data"):
    """``(name, training set, test set)`` of "mnist" or of "digits", the small ones.

    "auto" is MNIST or, with a warning, the small digits.
    """
    known = dataset in ("auto", "mnist", "digits")
    require(known, f'dataset must be "auto", "mnist" or "digits", not "{dataset}"')
    if dataset != "digits":
        try:
            return "mnist", *load_mnist(data_dir)
        except OSError as error:
            if dataset == "mnist":
                raise
            print(
                f"WARNING: small digits are used, NOT MNIST: {error}", file=sys.stderr
            )
    return "digits", *load_small_digits()


def hold_out(data, n, seed=0):
    """Split off ``n`` images, each class in proportion: ``(rest, held out)``."""
    images, labels = data
    rest, held, rest_labels, held_labels = train_test_split(
        images, labels, test_size=n, random_state=seed, stratify=labels
    )
    return (rest, rest_labels), (held, held_labels)


def repeat(data, times=20):
    """Repeat a small data set, so that an epoch has enough steps.

    Hold out images before, not after: a copy must never be tested on.
    """
    images, labels = data
    return images.repeat(times, 1, 1, 1), labels.repeat(times)


# %% Command line


def build_parser():
    """The options: those of ``Settings``, and where data come from and results go."""
    parser = argparse.ArgumentParser(
        description="Train a teacher, and the same student twice: alone and distilled.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    for f in fields(Settings):
        flag = "--" + f.name.replace("_", "-")
        add(flag, type=f.type, default=f.default, help=f.metadata["help"])
    data = "MNIST, scikit-learn's small digits, or auto: digits if MNIST is unavailable"
    add("--dataset", default="auto", choices=("auto", "mnist", "digits"), help=data)
    add("--data-dir", type=Path, default="data", help="folder that holds MNIST/raw")
    holdout = "number of training images to hold out, and to test on instead"
    add("--holdout", type=int, default=0, help=holdout)
    add("--teacher", type=Path, help="load mnist_teacher.pt of a run, train no teacher")
    add("--out-dir", type=Path, default=".", help="folder for all that is written")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", default=device, help="cpu, cuda, cuda:1 ...")
    return parser


def load_teacher(path, channels):
    """A TeacherCNN for digits with the weights in a file; ``ValueError`` if not so."""
    teacher = TeacherCNN(channels)
    try:
        teacher.load_state_dict(torch.load(path, "cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # a file may hold anything
        wanted = f"the weights of a TeacherCNN with --teacher-channels {channels}"
        raise ValueError(f"--teacher {path} does not hold {wanted}") from error
    finite = all(weight.isfinite().all() for weight in teacher.parameters())
    require(finite, f"--teacher {path} holds weights that are not finite")
    return teacher


def load_sets(args):
    """Name and title of the data, and both sets, chosen by the options."""
    name, train_set, test_set = load_data(args.dataset, args.data_dir)
    title = "MNIST" if name == "mnist" else "small digits, not MNIST"
    if args.holdout != 0:
        train_set, test_set = hold_out(train_set, args.holdout)
        title += ", held-out training images"
    n = len(train_set[0])
    print(f"{title}: {n:,} images to train on, {len(test_set[0]):,} to test on")
    if name == "digits":
        train_set = repeat(train_set)
        print("An epoch shows each of these few images 20 times.")
    train_set = [part.to(args.device) for part in train_set]
    test_set = [part.to(args.device) for part in test_set]
    return name, title, train_set, test_set


def describe_run(argv, title, device):
    """What a report needs besides settings and results."""
    device_name = platform.processor() or platform.machine()
    if device.startswith("cuda"):
        device_name = torch.cuda.get_device_name(device)
    run = {
        "command": shlex.join(["python", "kd_mnist.py", *argv]),
        "date": datetime.now().isoformat(timespec="seconds"),
        "data": title,
        "device": device,
        "device_name": device_name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    for package in ("torch", "torchvision", "numpy", "scikit-learn"):
        run[package] = version(package)
    return run


def save_weights(path, network):
    """Write a ``state_dict`` that loads on any computer, with or without a GPU."""
    weights = {key: weight.cpu() for key, weight in network.state_dict().items()}
    torch.save(weights, path)


def save_json(path, report):
    """Write strict JSON, without NaN."""
    text = json.dumps(report, indent=1, allow_nan=False)
    Path(path).write_text(text, encoding="utf-8")


def save_figure(path, draw, *arguments):
    """Write the Figure that ``draw(*arguments)`` makes; in a notebook, show it too."""
    draw(*arguments).savefig(path)
    if "IPython" in sys.modules:
        from IPython import display, get_ipython

        if get_ipython() is not None:  # it runs, and was not just imported
            display.display(display.Image(filename=path))


def save_all(start, networks, records, report, train_set, title):
    """Write weights, results and figures to files whose names begin with ``start``.

    Prints the name of a file that fails, writes the others. True if none failed.
    """
    seed = report["settings"]["seed"]
    temperature = report["settings"]["temperature"]
    teacher = networks["teacher", seed]
    images, labels = [part[:5000] for part in train_set]  # as in run_experiment
    logits = predict(teacher, images)
    soft_title = f"{title}: the teacher's soft labels of four training images"
    matrices = {}
    for record in records:
        if record["seed"] == seed and record["network"] != "teacher":
            name = f"{title}, {record['network']}: {record['errors']:,} errors"
            matrices[name] = record["confusion_matrix"]
    complete = True
    for name, save, arguments in (
        ("teacher.pt", save_weights, [teacher]),
        ("student_alone.pt", save_weights, [networks["student alone", seed]]),
        ("student_distilled.pt", save_weights, [networks["student distilled", seed]]),
        ("results.json", save_json, [report]),
        (
            "soft_labels.png",
            save_figure,
            [draw_soft_labels, images, labels, logits, temperature, soft_title],
        ),
        ("training_curves.png", save_figure, [draw_curves, records, title]),
        ("confusion_matrix.png", save_figure, [draw_confusion, matrices]),
    ):
        path = f"{start}_{name}"
        try:
            save(path, *arguments)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            print(f"kd_mnist.py: error: {path}: {one_line(error)}", file=sys.stderr)
            complete = False
    return complete


def main(argv=None):
    """Run with the arguments ``argv``, by default those of the command line.

    Returns what ``run_experiment`` returned; errors end the program with one line.
    """
    started = time.perf_counter()
    if argv is None:
        # Pasted into a notebook, this file sees the arguments of the notebook's kernel.
        argv = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
    args = build_parser().parse_args(argv)
    teacher = None
    try:
        settings = Settings(**{f.name: getattr(args, f.name) for f in fields(Settings)})
        torch.zeros(1, device=args.device).cpu()  # does the device work?
        if args.teacher:
            teacher = load_teacher(args.teacher, args.teacher_channels).to(args.device)
        args.out_dir.mkdir(parents=True, exist_ok=True)
        require(os.access(args.out_dir, os.W_OK), f"cannot write to {args.out_dir}")
        name, title, train_set, test_set = load_sets(args)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        sys.exit(f"kd_mnist.py: error: {one_line(error)}")
    run = describe_run(argv, title, args.device)
    print(f"on {run['device']} ({run['device_name']}), threads: {run['threads']}")
    if args.teacher and args.holdout:
        print("NOTE: fair only if this teacher was trained with the same --holdout")
    try:
        networks, records = run_experiment(train_set, test_set, settings, teacher)
    except FloatingPointError as error:
        sys.exit(f"kd_mnist.py: error: {error}")
    gain = compare(networks, test_set)
    print(f"\n{results_table(records)}\n\n{gain_text(gain)}")
    print(f"\n{first_images_text(networks, test_set)}", flush=True)
    run["seconds"] = time.perf_counter() - started
    report = {
        "run": run,
        "settings": asdict(settings),
        "networks": records,
        "gain": gain,
    }
    if args.teacher:
        run["teacher"] = str(args.teacher)
        del report["settings"]["teacher_epochs"]
        del report["settings"]["teacher_shift"]
    start = f"{args.out_dir}/{name}"
    complete = save_all(start, networks, records, report, train_set, title)
    seconds = time.perf_counter() - started
    print("\nFiles:", ascii(f"{start}_*"), f"after {seconds:.0f} s")
    if not complete:
        sys.exit(1)
    return networks, records


if __name__ == "__main__":
    try:
        networks, records = main()
    except KeyboardInterrupt:
        sys.exit(130)
