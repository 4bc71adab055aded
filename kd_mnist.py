# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.4", "torchvision>=0.19", "scikit-learn>=1.3", "matplotlib>=3.8",
#                 "seaborn>=0.13", "numpy>=1.26"]
# ///
"""Knowledge distillation on MNIST, whole: a CNN teaches a small MLP what the labels leave out.

    python kd_mnist.py              # teacher, student alone, the same student distilled
    python kd_mnist.py --help       # every setting
    python kd_mnist.py --dry-run    # each stage in a few seconds; the numbers mean nothing

The method is Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531. The method comes first and is complete at the line "data": models, loss,
training, evaluation. The rest is plumbing: data, measurements, figures, files, command line.
Letters in shape comments: N images, C = 10 classes.
"""

import argparse
import gzip
import hashlib
import http.client
import io
import json
import math
import os
import platform
import socket
import sys
import tempfile
import threading
import time
import zlib
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# ============================================================================== models


class TeacherCNN(nn.Module):
    """Two convolutions and one linear layer: images ``(N, 1, 28, 28)`` to logits ``(N, 10)``.

    20,490 weights by default, each convolution weight used at hundreds of places of an image.
    """

    def __init__(self, channels=(16, 32)):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], 3, padding=1)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=1)
        self.linear = nn.Linear(channels[1] * 7 * 7, 10)
        self.to(memory_format=torch.channels_last)  # the layout CPU convolutions are fastest in

    def forward(self, images):
        # max(relu(x)) = relu(max(x)): pooling first leaves ReLU a quarter of the work.
        x = F.relu(F.max_pool2d(self.conv1(images), 2))  # (N, 16, 14, 14)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (N, 32, 7, 7)
        return self.linear(x.flatten(1))  # (N, 10)


class TeacherMLP(nn.Sequential):
    """The 2015 paper's kind of teacher, wide layers with dropout: images to logits ``(N, 10)``.

    Dropout probabilities are Hinton et al. (2012), "Improving neural networks by preventing
    co-adaptation of feature detectors": 0.2 on the pixels, 0.5 on the hidden units.
    """

    def __init__(self, hidden=(1200, 1200), input_dropout=0.2, dropout=0.5):
        layers = [nn.Flatten(), nn.Dropout(input_dropout)]
        for n_in, n_out in zip((28 * 28, *hidden), hidden):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(dropout)]
        super().__init__(*layers, nn.Linear(hidden[-1], 10))


class StudentMLP(nn.Sequential):
    """A plain fully connected network: images ``(N, 1, 28, 28)`` to logits ``(N, 10)``.

    784 -> 128 -> 10 by default: 101,770 weights, each used once per image.
    """

    def __init__(self, hidden=(128,)):
        layers = [nn.Flatten()]
        for n_in, n_out in zip((28 * 28, *hidden), hidden):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        super().__init__(*layers, nn.Linear(hidden[-1], 10))


# ================================================================================ loss


class DistillationLoss(nn.Module):
    """Hinton, Vinyals and Dean (2015), section 2: soft labels from a teacher, hard from the data.

        alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T))
            + (1 - alpha) * cross_entropy(student, labels)

    ``alpha`` in [0, 1] is the *teacher's* weight: 0 is training alone, 1 ignores the labels.
    ``temperature`` T > 0 softens both distributions, so that the teacher's small probabilities
    count. Softening divides the gradient of the first term by about T^2; the factor T^2 puts that
    back, so that alpha means about the same at every T. Both terms are means over the N images:
    for the divergence that is ``batchmean`` (``mean`` would divide by the C classes too).

    Call with ``student_logits (N, C)``, ``teacher_logits (N, C)`` and ``labels (N,)`` int64; the
    result is a scalar. No gradient reaches the teacher. ``ValueError`` if the shapes do not match.
    """

    def __init__(self, temperature=2.0, alpha=0.5):
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, not {temperature}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
        self.temperature, self.alpha = temperature, alpha

    def forward(self, student_logits, teacher_logits, labels):
        if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
            raise ValueError(
                "student and teacher logits must both be (N, C), not "
                f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
            )
        if labels.shape != student_logits.shape[:1]:
            raise ValueError(
                f"labels must be (N,) beside logits {tuple(student_logits.shape)}, "
                f"not {tuple(labels.shape)}"
            )
        soft = F.kl_div(  # its first argument is the student, its divergence KL(second || first)
            F.log_softmax(student_logits / self.temperature, dim=1),
            F.log_softmax(teacher_logits.detach() / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.temperature * self.temperature * soft + (1 - self.alpha) * hard


# ============================================================= training and evaluation


def ink(images):
    """Images as floats, 0 for paper and 1 for ink; floats stay as they are.

    MNIST stays in memory as bytes, a quarter of the size, and each batch comes through here.
    """
    return images if images.is_floating_point() else images / 255


@torch.no_grad()
def predict(model, images, batch_size=256):
    """Logits ``(N, C)`` of ``model`` for ``images``, in evaluation mode and without gradients."""
    was_training = model.training
    model.eval()
    # Filled in place: small results kept between big buffers would leave gaps in memory.
    logits = torch.empty(len(images), model(ink(images[:1])).shape[1], device=images.device)
    for batch, rows in zip(images.split(batch_size), logits.split(batch_size)):
        rows.copy_(model(ink(batch)))
    model.train(was_training)
    return logits


def accuracy(logits, labels):
    """Share of the N images whose largest logit is that of their label."""
    return (logits.argmax(1) == labels).float().mean().item()


def shift(images, pixels, which):
    """Images ``(N, 1, H, W)`` moved by up to ``pixels`` down and across, zeros moved in.

    ``which`` ``(N,)`` names each image's move: there are ``(2 * pixels + 1) ** 2``, row by row.
    """
    side, (height, width) = 2 * pixels + 1, images.shape[2:]
    padded = F.pad(images, [pixels] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: every move of every image
    return windows[torch.arange(len(images), device=images.device), :, which // side, which % side]


def soft_labels(teacher, images, jitter=0):
    """The teacher's logits ``(N, C)``; with ``jitter`` ``(N, M, C)``, one row for each of M moves.

    The frozen teacher never changes its answers, so it is asked once, not once an epoch. Row i
    belongs to image i, whatever order the student learns in.
    """
    if not jitter:
        return predict(teacher, images)
    moves = torch.arange((2 * jitter + 1) ** 2, device=images.device)
    each = [predict(teacher, shift(images, jitter, k.expand(len(images)))) for k in moves]
    return torch.stack(each, dim=1)


def train(model, train_set, test_set, *, epochs, teacher_logits=None, distillation_loss=None,
          seed=0, batch_size=128, lr=1e-3, one_cycle=False, jitter=0, report=None):  # fmt: skip
    """Train ``model`` with Adam, alone or distilled, and return its history, a dict per epoch.

    ``train_set`` and ``test_set`` are pairs of images ``(N, channels, height, width)``, bytes or
    floats from 0 to 1, and int64 labels ``(N,)``. The test set is only looked at and chooses
    nothing. With ``teacher_logits``, which ``soft_labels`` made of the same training images in the
    same order and with the same ``jitter``, the loss is ``distillation_loss(logits,
    teacher_logits, labels)``, by default ``DistillationLoss()``.
    ``seed`` fixes the batches and the shifts: two calls with one seed see the same images in the
    same order. ``jitter`` shifts every training image by up to that many pixels, anew each epoch.
    ``one_cycle`` takes the learning rate up to ``lr`` and down to almost 0, and Adam's momentum the
    other way round (Smith and Topin 2018). ``report(record, epochs)`` is called after each epoch.
    ``FloatingPointError`` when a loss or logit is no number, ``ValueError`` when the soft labels
    are not those of the training set.
    """
    images, labels = train_set
    device = images.device
    moves = (2 * jitter + 1) ** 2
    if teacher_logits is not None:
        distillation_loss = distillation_loss or DistillationLoss()
        needed = (len(images), moves) if jitter else (len(images),)
        if teacher_logits.shape[:-1] != needed:
            got = tuple(teacher_logits.shape)
            raise ValueError(f"soft labels {got} are not {needed} and classes")
    # A generator of its own: nothing outside this loop can change the order of the batches.
    generator = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    schedule = None
    if one_cycle:
        steps = epochs * math.ceil(len(images) / batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    history = []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        model.train()
        total_loss = torch.zeros((), device=device)  # read once an epoch: .item() would wait
        order = torch.randperm(len(images), generator=generator, device=device)
        for batch in order.split(batch_size):
            x = images.index_select(0, batch)  # as images[batch], in a seventh of the time on a CPU
            y, rows = labels[batch], (batch,)
            if jitter:
                which = torch.randint(moves, batch.shape, generator=generator, device=device)
                x, rows = shift(x, jitter, which), (batch, which)
            logits = model(ink(x)).float()  # bfloat16 under autocast, and the loss needs more
            if teacher_logits is None:  # alone
                loss = F.cross_entropy(logits, y)
            else:  # distilled
                loss = distillation_loss(logits, teacher_logits[rows], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule:
                schedule.step()
            total_loss += loss.detach() * len(batch)
        mean_loss = total_loss.item() / len(images)
        seconds = time.perf_counter() - started
        test_logits = predict(model, test_set[0])
        if not (math.isfinite(mean_loss) and test_logits.isfinite().all()):
            raise FloatingPointError(
                f"the loss is no number in epoch {epoch}: try a lower lr or a higher temperature"
            )
        test_accuracy = accuracy(test_logits, test_set[1])
        history.append(
            dict(epoch=epoch, loss=mean_loss, test_accuracy=test_accuracy, seconds=seconds)
        )
        if report:
            report(history[-1], epochs)
    return history


# ================================================================================ data

# The shape and the MD5 of the uncompressed content of each of MNIST's four files.
MNIST_FILES = {
    "train-images-idx3-ubyte": ((60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": ((60_000,), "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": ((10_000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": ((10_000,), "27ae3e4e09519cfbb04c329615203637"),
}


def fetch_mnist(folder, mirrors=None, timeout=10):
    """Have torchvision download MNIST and put its four files, once all are whole, into ``folder``.

    A server has ``timeout`` seconds for each answer. The mirrors are tried in turn;
    ``FileNotFoundError`` gives the last one's reason.
    """
    from torchvision.datasets import MNIST

    mirrors = mirrors or [*MNIST.mirrors, "https://storage.googleapis.com/cvdf-datasets/mnist/"]
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # torchvision sets none and would wait for ever
    try:
        for mirror in mirrors:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                    source = type("MNIST", (MNIST,), {"mirrors": [mirror]})
                    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                        raw = Path(source(unfinished, download=True).raw_folder)
                    for name in MNIST_FILES:
                        os.replace(raw / name, folder / name)
                return
            except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
                reason = f"{error}".strip().split("\n")[-1] or type(error).__name__
    finally:
        socket.setdefaulttimeout(previous)
    raise FileNotFoundError(f"the download failed ({reason})")


def read_idx(path, shape, md5=None):
    """The bytes of one IDX file, gzipped or not, as a uint8 array of ``shape``.

    ``OSError`` if it is cut short, is of another shape, or has not the content that ``md5`` names.
    """
    content = path.read_bytes()
    header = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error):
        content = b""
    if len(content) != len(header) + math.prod(shape) or not content.startswith(header):
        raise OSError(f"{path} is cut short or no MNIST file: delete it and start again")
    if md5 and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise OSError(f"{path} is not MNIST but other data: delete it and start again")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def load_mnist(data_dir="data"):
    """MNIST as ``(images, labels), (images, labels)``, training and test; downloaded if need be.

    Images are uint8 ``(N, 1, 28, 28)``, 0 for paper and 255 for ink, labels int64 ``(N,)``.
    ``FileNotFoundError`` where it is neither there nor to be had, ``OSError`` where it is damaged.
    """
    folder = Path(data_dir) / "MNIST" / "raw"

    def find(name):
        return next(filter(Path.is_file, (folder / name, folder / f"{name}.gz")), None)

    if not all(map(find, MNIST_FILES)):
        print(f"Downloading MNIST (12 MB) to {folder} ...", flush=True)
        try:
            fetch_mnist(folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"MNIST is not in {folder} and {error}; put these four files there, "
                f"gzipped or not: {', '.join(MNIST_FILES)}"
            ) from None
    x, y, test_x, test_y = (
        torch.from_numpy(read_idx(find(name), *expected).copy())
        for name, expected in MNIST_FILES.items()
    )
    return (x.unsqueeze(1), y.long()), (test_x.unsqueeze(1), test_y.long())


def stratified(labels, n, seed=0):
    """Sorted indices of ``n`` random images, each class in its share of ``labels``."""
    if not 0 < n <= len(labels):
        raise ValueError(f"cannot choose {n} of {len(labels)} images")
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    return by_class[torch.arange(n) * len(labels) // n].sort().values


def hold_out(dataset, n, seed=0):
    """Split ``(images, labels)`` in two such pairs: the rest, and ``n`` stratified images."""
    images, labels = dataset
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    held_out[stratified(labels, n, seed)] = True
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def load_small_digits(seed=0):
    """scikit-learn's bundled 8x8 digits, enlarged as MNIST shows them: 20x20 pixels inside 28x28.

    1,437 images are for training; the held-out fifth, 360, is the test set.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).unsqueeze(1).float() / 16
    images = F.pad(F.interpolate(images, size=(20, 20), mode="bilinear"), [4] * 4)
    return hold_out((images, torch.from_numpy(digits.target).long()), 360, seed)


def load_data(dataset="auto", data_dir="data", seed=0):
    """``(name, training set, test set)``; "auto" is MNIST or, with a warning, the small digits."""
    if dataset != "digits":
        try:
            return "mnist", *load_mnist(data_dir)
        except FileNotFoundError as error:
            if dataset == "mnist":
                raise
            print(f"{FALLBACK_WARNING}\nReason: {error}\n", file=sys.stderr, flush=True)
    return "digits", *load_small_digits(seed)


# ============================================================================ measuring


def evaluate(logits, labels, teacher_logits):
    """What the test images say of a model: plain numbers and, in ``report``, a table by class."""
    from sklearn import metrics

    truth, predicted, digits = labels.cpu().numpy(), logits.argmax(1).cpu().numpy(), range(10)
    p = logits.cpu().double().softmax(1).numpy()
    return {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "errors": int((truth != predicted).sum()),
        "nll": float(metrics.log_loss(truth, p, labels=digits)),
        "agreement": accuracy(logits, teacher_logits.argmax(1)),
        "confidence": float(p.max(1).mean()),
        "top3_accuracy": float(metrics.top_k_accuracy_score(truth, p, k=3, labels=digits)),
        "auc": float(metrics.roc_auc_score(truth, p, multi_class="ovr", labels=digits)),
        "report": metrics.classification_report(
            truth, predicted, labels=digits, output_dict=True, zero_division=0
        ),
    }


def cost(model, images):
    """Parameters, multiply-adds per image, and milliseconds to classify 1,000 images."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(ink(images[:1]))
    thousand = images[torch.arange(1000, device=images.device) % len(images)]
    times = []
    for _ in range(6):
        started = time.perf_counter()
        predict(model, thousand).cpu()  # .cpu() waits for a GPU to finish
        times.append(1000 * (time.perf_counter() - started))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,  # a multiply-add is two operations
        "ms_per_1000": float(np.median(times[1:])),  # the first one warms up
    }


def mcnemar(wrong_a, wrong_b):
    """Exact two-sided McNemar test (1947): could two equally good models differ this much?

    ``wrong_a`` and ``wrong_b`` are boolean ``(N,)``, the errors on the same images. Only images
    that one model gets right and the other wrong count; by chance each way is a coin toss.
    """
    from scipy.stats import binomtest  # scikit-learn brings scipy along

    only_a, only_b = int((wrong_a & ~wrong_b).sum()), int((wrong_b & ~wrong_a).sum())
    n = only_a + only_b
    return float(binomtest(only_a, n).pvalue) if n else 1.0


def confidence_interval(differences, level=0.95):
    """Mean of two or more ``differences`` and the half-width of its Student t interval."""
    from scipy.stats import t

    n, sd = len(differences), np.std(differences, ddof=1)
    half = t.ppf((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    return float(np.mean(differences)), float(half)


def average(records):
    """The mean of records of one shape, number by number; what is equal in all stays as it is."""
    first = records[0]
    if isinstance(first, dict):
        return {key: average([record[key] for record in records]) for key in first}
    if isinstance(first, list):
        return [average(items) for items in zip(*records)]
    return first if all(r == first for r in records) else sum(records) / len(records)


def match_omitted(logits, unlabelled_logits, omitted, share=0.1):
    """Correct the logits of classes a student never saw so that it finds them in their ``share``.

    Hinton et al. (2015), section 3, chose this bias on the test set. Here each omitted class gets
    the bias at which that share of all training images falls to it, images without their labels:
    no label of an omitted class and no test image is read. Returns corrected logits and biases.
    """
    bias = torch.zeros(10, device=logits.device)
    for _ in range(20):  # each omitted class moves the others a little, so go round until they rest
        for digit in omitted:
            rivals = unlabelled_logits + bias
            rivals[:, digit] = -math.inf
            margin = rivals.max(1).values - unlabelled_logits[:, digit]
            bias[digit] = margin.sort().values[int(share * len(margin))]
    return logits + bias, [bias[digit].item() for digit in omitted]


def compare(alone, distilled, wrong_alone, wrong_distilled):
    """The gain of distillation over its paired control, and in plain words what it shows.

    ``alone`` and ``distilled`` are the records of all runs, pair by pair; ``wrong_alone`` and
    ``wrong_distilled`` ``(N,)`` the errors of the first pair, for the test on its images.
    """
    errors = [a["errors"] - d["errors"] for a, d in zip(alone, distilled)]
    points = [100 * (d["accuracy"] - a["accuracy"]) for a, d in zip(alone, distilled)]
    p_value, interval = mcnemar(wrong_alone, wrong_distilled), None
    shown = p_value < 0.05
    evidence = f"exact McNemar test on these images: p = {p_value:.2g}, "
    evidence += "more than chance" if shown else "chance alone could do that"
    if len(points) > 1:
        mean, half = confidence_interval(points)
        shown, interval = abs(mean) > half > 1e-9, [mean - half, mean + half]
        low_to_high = f"{mean - half:+.2f} to {mean + half:+.2f} points"
        evidence = f"95 % interval over {len(points)} pairs: {low_to_high}"
    verdict = ("better" if np.mean(points) > 0 else "worse") if shown else "no difference shown"
    return {"points": float(np.mean(points)), "errors": float(np.mean(errors)), "p_value": p_value,
            "interval": interval, "verdict": verdict, "evidence": evidence}  # fmt: skip


# ============================================================================== figures


def draw_confusion(labels, predicted, title):
    """Counts of true against predicted digit; the colours rank the errors, not the diagonal."""
    import seaborn
    from matplotlib.figure import Figure
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels.cpu().numpy(), predicted.cpu().numpy(), labels=range(10))
    correct = np.eye(10, dtype=bool)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    style = dict(annot=np.where(counts, counts, "").astype(str), fmt="", cbar=False, ax=axes,
                 linewidths=0.5, linecolor="0.85")  # fmt: skip
    worst = max(1, counts[~correct].max())
    seaborn.heatmap(counts, mask=correct, cmap="Reds", vmin=0, vmax=1.5 * worst, **style)
    seaborn.heatmap(counts, mask=~correct, cmap=["#e8f1e4"], **style)
    axes.set(xlabel="predicted digit", ylabel="true digit", title=title)
    return figure


def draw_curves(teacher, students, title):
    """Loss and test accuracy per epoch: each student's mean and sd over runs, the teacher a line.

    ``teacher`` is a history, ``students`` maps a name to the histories of its runs.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for name, runs in students.items():
        colour = "tab:blue" if "alone" in name else "tab:orange"
        for axes, key, scale in zip(panels, ("loss", "test_accuracy"), (1, 100)):
            values = scale * np.array([[epoch[key] for epoch in run] for run in runs])
            mean, sd = values.mean(0), values.std(0, ddof=int(len(values) > 1))
            epochs = np.arange(len(mean)) + 1
            axes.plot(epochs, mean, ".-" if len(epochs) <= 50 else "-", color=colour, label=name)
            axes.fill_between(epochs, mean - sd, mean + sd, color=colour, alpha=0.25, linewidth=0)
    final = 100 * teacher[-1]["test_accuracy"]
    panels[1].axhline(final, color="black", linestyle="--", label=f"teacher ({final:.2f} %)")
    panels[0].set(ylabel="training loss (each student's own)", yscale="log")
    panels[1].set(ylabel="test accuracy in %")
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def choose_instructive(teacher_logits, labels, temperature, digits=()):
    """Indices of up to five test images, of different ``digits``, that softening changes most.

    The teacher is right about them (where it can be): at T it tells more than at T = 1.
    """
    sure, soft = ((teacher_logits / t).softmax(1).max(1).values for t in (1, temperature))
    told = (sure - soft).abs().masked_fill(teacher_logits.argmax(1) != labels, -1)
    order, best = told.argsort(descending=True), {}
    for digit, i in zip(labels[order].tolist(), order.tolist()):
        best.setdefault(digit, i)
    return [i for digit, i in best.items() if not digits or digit in digits][:5]


def draw_soft_labels(images, teacher_logits, answers, temperature, title):
    """A row an image: the image, the teacher's probabilities at T = 1 and at T, everyone's answer.

    ``answers`` maps a name to the digits ``(N,)`` it gives the images.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.4 * len(images) + 0.7), layout="constrained")
    grid = figure.subplots(len(images), 3, width_ratios=(1, 3, 3), squeeze=False)
    for i, (picture, *bars) in enumerate(grid):
        picture.imshow(images[i, 0].cpu().numpy(), cmap="gray_r")
        picture.set(xticks=[], yticks=[])
        says = "\n".join(f"{name}: {digits[i]}" for name, digits in answers.items())
        picture.set_ylabel(says, rotation=0, ha="right", va="center")
        for axes, t, colour in zip(bars, (1, temperature), ("0.4", "tab:blue")):
            axes.bar(range(10), (teacher_logits[i] / t).softmax(0).cpu().numpy(), color=colour)
            axes.set(xticks=range(10), ylim=(0, 1), yticks=(0, 0.5, 1))
            if i == 0:
                axes.set_title(f"teacher's probabilities at T = {t:g}")
    figure.suptitle(title)
    return figure


# ================================================================= handwriting of yours


def read_image(path):
    """The image file as floats from 0 to 1, ``(3, H, W)``, turned as its camera meant it.

    What is transparent becomes light behind a dark drawing and dark behind a light one.
    """
    from PIL import Image, ImageOps  # which torchvision and matplotlib bring along

    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode[0] in "IF":  # grey of more than 8 bits, of which convert() would cut off the rest
        grey = np.asarray(image, np.float32)
        image = Image.fromarray((grey * (255 / max(1.0, grey.max()))).clip(0).astype(np.uint8))
    image = image.convert("RGBA")
    image.thumbnail((1000, 1000))  # a camera's millions of pixels would only cost time and memory
    rgba = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    colour, opacity = rgba[:3], rgba[3:]
    brightness = (colour * opacity).sum() / (3 * opacity.sum()).clamp(min=1e-6)
    return colour * opacity + (brightness < 0.5).float() * (1 - opacity)


def paper_colour(image):
    """What an image ``(3, H, W)`` would be without its drawing: as smooth as light on paper.

    A quadratic surface through the image's edge, without the quarter that fits it worst, which may
    be ink.
    """
    _, height, width = image.shape
    axes = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    y, x = torch.meshgrid(*axes, indexing="ij")
    terms = torch.stack([torch.ones_like(x), y, x, y * y, x * x, x * y], dim=-1)  # (H, W, 6)
    edge = torch.ones(height, width, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    at_edge, colours = terms[edge], image[:, edge].T
    keep = torch.ones(len(colours), dtype=torch.bool)
    for _ in range(3):
        weights = torch.linalg.lstsq(at_edge[keep], colours[keep]).solution  # (6, 3)
        misfit = (at_edge @ weights - colours).abs().amax(1)
        keep = misfit <= misfit.quantile(0.75)
    return (terms @ weights).permute(2, 0, 1).clamp(0, 1)


def prepare_digit(image):
    """An image ``(3, H, W)`` as MNIST's makers would have it: ``(1, 28, 28)``, ink 1 on paper 0.

    Whatever differs from the colour of the paper is ink, be it darker or lighter. It is fitted into
    20x20 pixels, its centre of mass in the middle (LeCun et al. 1998, section III).
    ``ValueError`` if nothing stands out.
    """
    stroke = (image - paper_colour(image)).abs().amax(0)  # (H, W)
    if stroke.max() < 0.1:
        raise ValueError("nothing stands out from the background")
    stroke = ((stroke / stroke.max() - 0.1) / 0.9).clamp(min=0)  # faint shadows are paper
    rows, columns = ((stroke > 0.2).any(dim).nonzero()[:, 0] for dim in (1, 0))
    stroke = stroke[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = [max(1, round(20 * side / max(stroke.shape))) for side in stroke.shape]
    stroke = F.interpolate(stroke[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    stroke = stroke / stroke.max()
    # A margin of 28 all around, then the window whose middle pixel has the centre of mass.
    down, across = (
        round(float((stroke.sum(1 - dim) * torch.arange(n)).sum() / stroke.sum())) + 14
        for dim, n in enumerate(size)
    )
    return F.pad(stroke, [28] * 4)[None, down : down + 28, across : across + 28]


def load_checkpoint(path):
    """The network whose weights are in ``path``; its kind and widths are read from their shapes.

    ``OSError`` if the file is not one that this script wrote. Nothing but weights is unpickled.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: train first, with the same --out-dir")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        hidden = [shape[0] for shape in shapes.values() if len(shape) == 2][:-1]
        if "conv1.weight" in shapes:
            model = TeacherCNN((shapes["conv1.weight"][0], shapes["conv2.weight"][0]))
        else:  # dropout shifts the teacher's first linear layer to place 2
            model = TeacherMLP(hidden) if "2.weight" in shapes else StudentMLP(hidden)
        model.load_state_dict(weights)
    except Exception as error:  # a foreign file can fail in any way
        raise OSError(f"{path} holds no network of this script") from error
    return model


def draw_predictions(shown, title):
    """A row an image: as given, as the networks see it, and the probabilities of each network.

    ``shown`` holds ``(image (3, H, W), digit (1, 28, 28), {network: probabilities (10,)})``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.8 * len(shown) + 0.7), layout="constrained")
    grid = figure.subplots(len(shown), 3, width_ratios=(1, 1, 3), squeeze=False)
    for (given, seen, bars), (image, digit, networks) in zip(grid, shown):
        given.imshow(image.permute(1, 2, 0).numpy())
        seen.imshow(digit[0].numpy(), cmap="gray_r")
        for place, (name, probabilities) in zip((0, 0.4), networks.items()):
            bars.bar(np.arange(10) + place, probabilities.numpy(), 0.4, label=name)
        bars.set(xticks=range(10), ylim=(0, 1))
        for axes in (given, seen):
            axes.set(xticks=[], yticks=[])
    for axes, heading in zip(grid[0], ("as given", "as seen", "probabilities")):
        axes.set_title(heading)
    grid[0, 2].legend()
    figure.suptitle(title)
    return figure


def predict_files(paths, out_dir, data="auto"):
    """Print and draw what saved networks make of image files; the number of failures.

    ``data`` is what the networks were trained on, "auto" stands for those saved last.
    """
    if data == "auto":
        saved = [file for file in out_dir.glob("*_student.pt") if file.name[:-11] in TITLES]
        latest = max(saved, key=lambda file: file.stat().st_mtime, default=Path("mnist_student.pt"))
        data = latest.name[:-11]  # "mnist" or "digits"
    models = {"student": load_checkpoint(out_dir / f"{data}_student.pt")}
    if (out_dir / f"{data}_teacher.pt").exists():
        models["teacher"] = load_checkpoint(out_dir / f"{data}_teacher.pt")
    print(f"With the networks in {out_dir.resolve()}, trained on {TITLES[data]}:")
    shown = []
    for path in paths:
        try:
            image = read_image(path)
            digit = prepare_digit(image)
        except Exception as error:  # a file from anywhere can fail in any way
            reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
            print(f"{path}: cannot be read as a digit: {reason}", file=sys.stderr)
            continue
        answers = {who: predict(model, digit[None])[0].softmax(0) for who, model in models.items()}
        shown.append((image, digit, answers))
        top = answers["student"].topk(3)
        likely = ", ".join(f"{d} {100 * p:.1f} %" for p, d in zip(*map(torch.Tensor.tolist, top)))
        says = f"{path}: {top.indices[0]}   student: {likely}"
        if "teacher" in answers:
            probability, teacher_digit = answers["teacher"].max(0)
            says += f"   teacher: {teacher_digit} {100 * probability:.1f} %"
        print(says)
    if shown:
        figure = draw_predictions(shown, "What the networks make of these images")
        write_whole(out_dir / f"{data}_predictions.png", partial(figure.savefig, dpi=100))
        print(f"Wrote {out_dir / f'{data}_predictions.png'}")
    return len(paths) - len(shown)


# ========================================================================= command line

# Epochs of the teacher and of the students. The small digits make 12 updates an epoch, MNIST 469.
DEFAULT_EPOCHS = {"mnist": (5, 20), "digits": (40, 800)}
TITLES = {"mnist": "MNIST", "digits": "small digits, not MNIST"}
FALLBACK_WARNING = """
******************************************************************************
*  WARNING: this is NOT MNIST: it is not here and could not be downloaded.   *
*  The results are for scikit-learn's 1,797 small handwritten digits.        *
******************************************************************************"""


def number(kind, low, high):
    """An argparse type: a ``kind`` from ``low`` to ``high``."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            noun = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text} is not a {noun} from {low} to {high}")
        return value

    return parse


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage before an error: one line says what is wrong."""

    def error(self, message):
        self.exit(2, f"kd_mnist.py: error: {message}\n")


def build_parser():
    """The command line: every setting with its default and its bounds."""
    parser = OneLineParser(
        prog="kd_mnist.py", description="Knowledge distillation on MNIST.", allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    add, size, unset = parser.add_argument, number(int, 1, 10_000), argparse.SUPPRESS
    pixels, images = number(int, 0, 4), number(int, 100, 60_000)
    epochs = ["default: {}, small digits: {}".format(*e) for e in zip(*DEFAULT_EPOCHS.values())]
    add("--temperature", type=number(float, 0.01, 1000), default=2.0,
        metavar="T", help="softens the probabilities")  # fmt: skip
    add("--alpha", type=number(float, 0, 1), default=0.5, metavar="A",
        help="weight of the teacher's term")  # fmt: skip
    add("--teacher-epochs", type=size, default=unset, metavar="N", help=epochs[0])
    add("--student-epochs", type=size, default=unset, metavar="N", help=epochs[1])
    add("--batch-size", type=number(int, 1, 60_000), default=128, metavar="N",
        help="images per update")  # fmt: skip
    add("--lr", type=number(float, 1e-8, 1000), default=1e-3, metavar="R",
        help="Adam's learning rate, for all models")  # fmt: skip
    add("--one-cycle", action="store_true", help="learning rate up to --lr and down again")
    add("--jitter", type=pixels, default=0, metavar="PX", help="shift the teacher's images")
    add("--student-jitter", type=pixels, default=0, metavar="PX",
        help="shift the students' too; the teacher answers for the shifted image")  # fmt: skip
    add("--teacher", choices=("cnn", "mlp"), default="cnn", help="kind of teacher")
    add("--teacher-channels", type=size, nargs=2, default=[16, 32], metavar="N", help="of the cnn")
    add("--teacher-hidden", type=size, nargs="+", default=[1200, 1200], metavar="N",
        help="of the mlp")  # fmt: skip
    add("--student-hidden", type=size, nargs="+", default=[128], metavar="N", help="layer widths")
    add("--runs", type=number(int, 1, 1000), default=1, metavar="N", help="pairs of students")
    add("--no-control", action="store_true", help="leave out the student that learns alone")
    add("--omit-digits", type=number(int, 0, 9), nargs="+", default=[], metavar="D",
        help="digits that are kept from the students, not from the teacher")  # fmt: skip
    add("--holdout", type=images, metavar="N",
        help="test on N training images kept from all models, not on the test set")  # fmt: skip
    add("--seed", type=number(int, 0, 2**31), default=0, help="of weights, batches, shifts, splits")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="auto: cuda if there is one, else cpu")  # fmt: skip
    add("--bf16", choices=("auto", "none", "teacher", "all"), nargs="?", default="auto",
        const="all", help="16-bit products; auto: the teacher's, on CPUs with AMX")  # fmt: skip
    add("--dataset", choices=("auto", "mnist", "digits"), default="auto",
        help="auto: mnist, or where it cannot be had the small digits")  # fmt: skip
    add("--data-dir", type=Path, default="data", metavar="DIR", help="MNIST/raw is in it")
    add("--out-dir", type=Path, default=".", metavar="DIR", help="for the six files")
    add("--subset", type=images, metavar="N", help="train on N images and test on N/6")
    add("--predict", type=Path, nargs="+", default=[], metavar="IMAGE",
        help="no training: read these images with the networks saved in --out-dir")  # fmt: skip
    add("--dry-run", action="store_true", help="300 images, one epoch: only tries every stage")
    return parser


def check_settings(args, parser):
    """Refuse, before any work, what this machine cannot do; settle the device and the folder."""
    cuda = torch.cuda.is_available()
    if args.device == "auto":
        args.device = "cuda" if cuda else "cpu"
    if args.device == "cuda" and not cuda:
        parser.error("argument --device: this machine, or its torch, has no cuda")
    if args.device == "cuda" and args.bf16 in ("teacher", "all"):
        if not torch.cuda.is_bf16_supported():
            parser.error("argument --bf16: this GPU cannot compute in bfloat16")
    if args.bf16 == "auto":  # only recent versions of torch can tell
        able = getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False)
        args.bf16 = "teacher" if able and args.device == "cpu" else "none"
    args.omit_digits = sorted({*args.omit_digits})
    if len(args.omit_digits) > 8:
        parser.error("argument --omit-digits: at least two digits must be left")
    for flag, folder in (("--data-dir", args.data_dir), ("--out-dir", args.out_dir)):
        try:
            needed = args.predict and flag == "--out-dir"
            if not folder.is_dir() and (folder.exists() or needed):
                parser.error(f"argument {flag}: {folder} is not a folder")
        except OSError as error:
            parser.error(f"argument {flag}: {folder}: {error.strerror}")
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out_dir).close()
    except OSError as error:
        parser.error(f"argument --out-dir: {args.out_dir} cannot be written to: {error.strerror}")
    if args.dry_run:
        args.subset, args.teacher_epochs, args.student_epochs = args.subset or 300, 1, 1


def choose_images(args, parser, train_set, test_set):
    """The training and test images that ``--holdout`` and ``--subset`` leave, on the device."""
    if args.holdout and args.holdout > len(train_set[1]) - 100:
        parser.error(f"argument --holdout: {args.holdout} of {len(train_set[1])} is too many")
    if args.holdout:
        train_set, test_set = hold_out(train_set, args.holdout, args.seed)
    if args.subset:
        most = min(len(train_set[1]), 6 * len(test_set[1]) + 5)
        if args.subset > most:
            parser.error(f"argument --subset: {args.subset} is more than the {most} there are")
        train_set = hold_out(train_set, args.subset, args.seed)[1]
        test_set = hold_out(test_set, args.subset // 6, args.seed)[1]
    return [tuple(part.to(args.device) for part in chosen) for chosen in (train_set, test_set)]


def say(line, end="\n"):
    """Print a line, on a terminal in the place of the progress line, if there is one."""
    sys.stdout.write(f"\r{'':30}\r" * sys.stdout.isatty() + line + end)  # at once: threads write
    sys.stdout.flush()


@contextmanager
def progress_line(started, total):
    """On a terminal, show every second how long the run takes already and, of ``total``, in all."""
    done = threading.Event()

    def tick():
        while not done.wait(1):
            of = f" of about {total[0]:.0f} s" if total else " s"
            say(f"  {time.perf_counter() - started:.0f}{of} ...", end="")

    ticker = threading.Thread(target=tick, daemon=True)
    if sys.stdout.isatty():
        ticker.start()
    try:
        yield
    finally:
        done.set()
        if ticker.ident:
            ticker.join()
            say("", end="")


def print_epoch(record, epochs):
    """One line an epoch; of a training of more than 100 epochs, some twenty lines in all."""
    if epochs <= 100 or record["epoch"] % (epochs // 20) == 0 or record["epoch"] == epochs:
        width = len(str(epochs))
        say(f"  epoch {record['epoch']:{width}}/{epochs}   loss {record['loss']:.4f}   "
            f"test accuracy {100 * record['test_accuracy']:.2f} %   "
            f"{record['seconds']:.2f} s")  # fmt: skip


def half_precision(args, *choices):
    """A context of bfloat16 products if ``args.bf16`` is among ``choices``, else of no effect."""
    # Cached casts of the weights would outlive the updates inside one context for all.
    return torch.autocast(args.device, torch.bfloat16, args.bf16 in choices, cache_enabled=False)


def foresee(args, train_set, started):
    """A report for ``train``, and a list where it puts the whole run's seconds when it can tell."""
    images, labels = (part[: 20 * args.batch_size] for part in train_set)
    with half_precision(args, "all"):  # a student's first 20 updates, as a trial
        trial = train(StudentMLP(args.student_hidden).to(args.device), (images, labels),
                      (images[:1], labels[:1]), epochs=2, batch_size=args.batch_size,
                      jitter=args.student_jitter)  # fmt: skip
    student_epochs = (1 if args.no_control else 2) * args.runs * args.student_epochs
    # A fifth more, for the soft term of the loss and for the test after each epoch.
    students = 1.2 * student_epochs * trial[-1]["seconds"] * len(train_set[1]) / len(labels)
    total = []

    def report(record, epochs):
        print_epoch(record, epochs)
        if not total:  # the soft labels take a third of an epoch a move, tables and figures 4 s
            teacher_epochs = epochs - 1 + (2 * args.student_jitter + 1) ** 2 / 3
            left = teacher_epochs * record["seconds"] + students + 4
            total.append(time.perf_counter() - started + left)
            say(f"  about {left:.0f} seconds are left")

    return report, total


def teach(args, fit, train_set):
    """Train the teacher, freeze it and ask it for its soft labels: network, logits, history."""
    say("\nTeacher")
    torch.manual_seed(args.seed)
    cnn = args.teacher == "cnn"
    teacher = TeacherCNN(args.teacher_channels) if cnn else TeacherMLP(args.teacher_hidden)
    teacher.to(args.device)
    history = fit(teacher, train_set, epochs=args.teacher_epochs, seed=args.seed,
                  jitter=args.jitter)  # fmt: skip
    teacher.requires_grad_(False).eval()
    started = time.perf_counter()
    logits = soft_labels(teacher, train_set[0], args.student_jitter)
    say(f"  its soft labels for {logits[..., 0].numel():,} images   "
        f"{time.perf_counter() - started:.2f} s")  # fmt: skip
    # Soft labels beside the wrong images would still teach, only badly: see that they fit.
    some = logits[::61, logits.shape[1] // 2] if args.student_jitter else logits[::61]
    asked = predict(teacher, train_set[0][::61])
    assert torch.allclose(some, asked, rtol=0.05, atol=0.2), "soft labels of other images"
    return teacher, logits, history


def evaluate_omitted(student, logits, labels, unlabelled, omitted, share):
    """How a student does on digits it never saw, as it is and after ``match_omitted``."""
    corrected, bias = match_omitted(logits, predict(student, unlabelled), omitted, share)
    unseen = torch.isin(labels, torch.tensor(omitted, device=labels.device))
    return {
        "recognised": accuracy(logits[unseen], labels[unseen]),
        "recognised_corrected": accuracy(corrected[unseen], labels[unseen]),
        "errors_corrected": int((corrected.argmax(1) != labels).sum()),
        "bias": bias,
    }


def learn(args, fit, kinds, train_set, test_set, teacher_test_logits):
    """Train the students, in pairs that share weights and batches: all records, the first students.

    ``kinds`` maps "distilled" to the teacher's logits for ``train_set`` and "alone" to None.
    """
    (unlabelled, labels), (test_images, test_labels) = train_set, test_set
    if args.omit_digits:
        shown = ~torch.isin(labels, torch.tensor(args.omit_digits, device=labels.device))
        train_set = unlabelled[shown], labels[shown]
        share = (1 - len(train_set[1]) / len(labels)) / len(args.omit_digits)  # of each, if alike
        kinds = {k: None if logits is None else logits[shown] for k, logits in kinds.items()}
    loss = DistillationLoss(args.temperature, args.alpha)
    records, students = {kind: [] for kind in kinds}, {}
    for seed in range(args.seed, args.seed + args.runs):
        for kind, teacher_logits in kinds.items():
            say(f"\nStudent {kind}" + f", seed {seed}" * (args.runs > 1))
            torch.manual_seed(seed)
            student = StudentMLP(args.student_hidden).to(args.device)
            history = fit(student, train_set, epochs=args.student_epochs, seed=seed,
                          jitter=args.student_jitter, teacher_logits=teacher_logits,
                          distillation_loss=loss)  # fmt: skip
            answers = predict(student, test_images)
            record = {"seed": seed, **evaluate(answers, test_labels, teacher_test_logits)}
            if args.omit_digits:
                record["omitted"] = evaluate_omitted(
                    student, answers, test_labels, unlabelled, args.omit_digits, share
                )
            records[kind].append(record | {"history": history})
            students.setdefault(kind, student)
    return records, students


def print_results(results, omitted):
    """The table of the models, the gain with its uncertainty, and the digits left out."""
    print(f"\n{'':17}{'weights':>10} {'mult-adds':>10}{'ms/1000':>8}{'accuracy':>10}"
          f"{'errors':>7}{'NLL':>7}{'agrees':>9}")  # fmt: skip
    models = ("teacher", "student_alone", "student_distilled")
    rows = {key.replace("_", " "): results[key] for key in models if results[key]}
    for name, row in rows.items():
        print(f"{name:17}{row['parameters']:10,} {row['multiply_adds']:10,}"
              f"{row['ms_per_1000']:8.1f}{100 * row['accuracy']:8.2f} %{round(row['errors'], 1):7g}"
              f"{row['nll']:7.3f}{100 * row['agreement']:7.1f} %")  # fmt: skip
    if gain := results.get("gain"):
        n, fewer = round(abs(gain["errors"]), 1), "fewer" if gain["errors"] >= 0 else "more"
        fewer = f"{n:g} {fewer} error" + "s" * (n != 1)
        print(f"\nDistillation: {gain['points']:+.2f} points, {fewer}: "
              f"{gain['verdict']}\n({gain['evidence']})")  # fmt: skip
    students = {name: row for name, row in rows.items() if "runs" in row}
    for name, row in students.items():
        values = [100 * run["accuracy"] for run in row["runs"]]
        if len(values) > 1:
            mean, sd = np.mean(values), np.std(values, ddof=1)
            print(f"{name:17} {mean:.2f} ± {sd:.2f} % (mean and sd of {len(values)} runs)")
    if not omitted:
        return
    print(f"\nDigits kept from the students: {', '.join(map(str, omitted))}")
    for name, row in students.items():
        seen, biases = row["omitted"], ", ".join(f"{b:.1f}" for b in row["omitted"]["bias"])
        for label, recognised, errors in (
            (name, seen["recognised"], row["errors"]),
            (f"  bias {biases}", seen["recognised_corrected"], seen["errors_corrected"]),
        ):
            print(f"{label:17} {100 * recognised:5.1f} % recognised, "
                  f"{round(errors, 1):g} errors in all")  # fmt: skip


def write_whole(path, write):
    """Have ``write(file)`` fill the file ``path``, whole or not at all."""
    content, unfinished = io.BytesIO(), path.with_name(f".{path.name}.{os.getpid()}")
    write(content)
    try:
        unfinished.write_bytes(content.getvalue())
        os.replace(unfinished, path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def draw_figures(title, test_set, teacher_logits, answers, teacher_history, histories, args):
    """The three figures of a run, by the names of their files."""
    images, labels = test_set
    some = choose_instructive(teacher_logits, labels, args.temperature, args.omit_digits)
    shown = {who: digits[some] for who, digits in answers.items()}
    errors = f"{(answers['distilled'] != labels).sum()} errors in {len(labels):,}"
    return {
        "confusion_matrix.png": draw_confusion(
            labels, answers["distilled"], f"{title}: distilled student, {errors}"),
        "training_curves.png": draw_curves(
            teacher_history, histories, f"{title}: one student, two ways to learn"),
        "soft_labels.png": draw_soft_labels(
            images[some], teacher_logits[some], shown, args.temperature,
            f"{title}: what the teacher tells beyond the label"),
    }  # fmt: skip


def run(args, parser):
    """The whole experiment: train, distil, measure, print, draw, write the six files."""
    started = time.perf_counter()
    name, *sets = load_data(args.dataset, args.data_dir, args.seed)
    for setting, default in zip(("teacher_epochs", "student_epochs"), DEFAULT_EPOCHS[name]):
        vars(args).setdefault(setting, default)
    train_set, test_set = choose_images(args, parser, *sets)
    test_images, test_labels = test_set
    title = TITLES[name] + ", dry run" * args.dry_run
    tested = "held-out" if args.holdout else "test"
    print(f"{title}: {len(train_set[1]):,} training images, {len(test_labels):,} {tested} images, "
          f"on {args.device}")  # fmt: skip
    results = {
        "dataset": name,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "environment": {
            "python": platform.python_version(), "torch": version("torch"),
            "torchvision": version("torchvision"), "device": args.device,
            "threads": torch.get_num_threads(),
        },
    }  # fmt: skip

    report, total = foresee(args, train_set, started)
    fit = partial(train, test_set=test_set, batch_size=args.batch_size, lr=args.lr,
                  one_cycle=args.one_cycle, report=report)  # fmt: skip
    with progress_line(started, total):
        with half_precision(args, "teacher", "all"):
            teacher, teacher_logits, teacher_history = teach(args, fit, train_set)
            teacher_test_logits = predict(teacher, test_images)
            results["teacher"] = evaluate(teacher_test_logits, test_labels, teacher_test_logits)
            results["teacher"] |= cost(teacher, test_images) | {"history": teacher_history}
        kinds = {"alone": None, "distilled": teacher_logits}
        if args.no_control:
            del kinds["alone"]
            results["student_alone"] = None
        answers = {"true": test_labels, "teacher": teacher_test_logits.argmax(1)}
        with half_precision(args, "all"):
            records, students = learn(args, fit, kinds, train_set, test_set, teacher_test_logits)
            for kind, student in students.items():
                mean = {key: x for key, x in average(records[kind]).items() if key != "seed"}
                more = cost(student, test_images) | {"runs": records[kind]}
                results[f"student_{kind}"] = mean | more
                answers[kind] = predict(student, test_images).argmax(1)
    if "alone" in kinds:
        wrong = (answers[kind] != test_labels for kind in kinds)
        results["gain"] = compare(records["alone"], records["distilled"], *wrong)
    print_results(results, args.omit_digits)
    five = f"Five of the {tested} digits" if args.subset else f"The first five {tested} digits"
    print(f"\n{five}" + " (first pair of students)" * (args.runs > 1))
    for who, digits in answers.items():
        print(f"  {who:10}", *digits[:5].tolist())

    prefix = "dry_run_" * args.dry_run + name  # a dry run overwrites no other run's files
    text = json.dumps(results, indent=1, allow_nan=False).encode()
    writers = {  # before the figures: what took longest to get is safe first
        "student.pt": partial(torch.save, students["distilled"].cpu().state_dict()),
        "teacher.pt": partial(torch.save, teacher.cpu().state_dict()),
        "results.json": lambda file: file.write(text),
    }
    for file, write in writers.items():
        write_whole(args.out_dir / f"{prefix}_{file}", write)
    histories = {f"student {kind}": [run["history"] for run in records[kind]] for kind in kinds}
    figures = draw_figures(
        title, test_set, teacher_test_logits, answers, teacher_history, histories, args
    )
    for file, figure in figures.items():
        write_whole(args.out_dir / f"{prefix}_{file}", partial(figure.savefig, dpi=150))
    print(f"\nWrote to {args.out_dir.resolve()}:")
    print(*(f"  {prefix}_{file}" for file in (*figures, *writers)), sep="\n")
    if "ipykernel" in sys.modules:  # in a notebook
        from IPython.display import Image, display

        display(*(Image(args.out_dir / f"{prefix}_{file}", width=700) for file in figures))
        print('To change settings: main(["--student-epochs", "5"])')
    print(f"{time.perf_counter() - started:.0f} seconds in all.")
    if args.dry_run:
        print("This was a dry run: every stage works, and its numbers mean nothing.")
    if args.dataset == "auto" and name == "digits":
        print(FALLBACK_WARNING)


def main(argv=None):
    """Run the command line ``argv`` (default: this process's own) and return its exit code."""
    if argv is None:  # a notebook that this file is pasted into has the kernel's arguments
        argv = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
    if hasattr(sys.stdout, "reconfigure"):  # a folder's name may not fit into a log's encoding
        sys.stdout.reconfigure(errors="replace")
    try:
        parser = build_parser()
        args = parser.parse_args(argv)
        check_settings(args, parser)
        if args.predict:
            return 1 if predict_files(args.predict, args.out_dir, args.dataset) else 0
        run(args, parser)
        return 0
    except KeyboardInterrupt:
        print("\nkd_mnist.py: interrupted", file=sys.stderr)
        return 130
    except (OSError, FloatingPointError) as error:
        reason = error
    except (RuntimeError, MemoryError) as error:  # a CPU's lack of memory has no class in torch
        lacking = ("out of memory", "not enough memory", "allocate memory")
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in lacking):
            raise
        reason = "not enough memory: try smaller networks, --batch-size or --student-jitter"
    print(f"kd_mnist.py: error: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if exit_code := main():  # a notebook shows even exit(0) as an error
        sys.exit(exit_code)
