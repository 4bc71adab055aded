# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.4", "torchvision>=0.19", "scikit-learn>=1.3", "matplotlib>=3.8",
#                 "seaborn>=0.13", "numpy>=1.26"]
# ///
"""Knowledge distillation on MNIST: a CNN teaches an MLP that needs a tenth of its arithmetic.

    python kd_mnist.py              # teacher, student alone, the same student distilled
    python kd_mnist.py --help       # every setting
    python kd_mnist.py --dry-run    # every stage in a few seconds; the numbers mean nothing

The method, by Hinton, Vinyals and Dean (2015, arXiv:1503.02531), comes first and ends at the line
"data"; the rest is plumbing. Shapes: N images, C = 10 classes, M shifts of an image.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import math
import os
import socket
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import seaborn
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageFilter, ImageOps
from scipy import ndimage, stats
from sklearn import datasets, metrics
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# ========================================================================== the method


class TeacherCNN(nn.Module):
    """Two convolutions and one linear layer: images ``(N, 1, 28, 28)`` to logits ``(N, 10)``.

    20,490 weights by default; each convolution weight is used at hundreds of places of an image.
    """

    def __init__(self, channels=(16, 32)):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], 3, padding=1)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=1)
        self.linear = nn.Linear(channels[1] * 7 * 7, 10)  # pooled twice: 28 -> 14 -> 7
        self.to(memory_format=torch.channels_last)  # the layout CPU convolutions are fastest in

    def forward(self, images):
        # max(relu(x)) = relu(max(x)): pooling first leaves ReLU a quarter of the work.
        x = F.relu(F.max_pool2d(self.conv1(images), 2))  # (N, 16, 14, 14)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (N, 32, 7, 7)
        return self.linear(x.flatten(1))  # (N, 10)


class StudentMLP(nn.Sequential):
    """A fully connected network: images ``(N, 1, 28, 28)`` to logits ``(N, 10)``.

    784 -> 128 -> 10 by default: five times the teacher's weights, a tenth of its multiply-adds.
    """

    def __init__(self, hidden=(128,)):
        layers = [nn.Flatten()]
        for n_in, n_out in zip((28 * 28, *hidden), hidden):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        super().__init__(*layers, nn.Linear(hidden[-1], 10))


class DistillationLoss(nn.Module):
    """Hinton, Vinyals and Dean (2015), section 2: soft labels from a teacher, hard from the data.

        alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T))
            + (1 - alpha) * cross_entropy(student, labels)

    ``alpha`` in [0, 1] is the *teacher's* weight: 0 is training alone, 1 ignores the labels.
    ``temperature`` T > 1 softens both distributions, so that small probabilities count. That
    divides the gradient of the first term by about T^2, and the factor T^2 puts it back. Both terms
    are means over the N images: ``batchmean``, since ``mean`` would divide by the C classes too.

    Call with ``student_logits (N, C)``, ``teacher_logits (N, C)`` and ``labels (N,)`` int64; the
    result is a scalar. No gradient reaches the teacher. ``ValueError`` if shapes do not match.
    """

    def __init__(self, temperature=2.0, alpha=0.5):
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, not {temperature}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
        self.temperature, self.alpha = temperature, alpha

    def forward(self, student_logits, teacher_logits, labels):
        shapes = [tuple(part.shape) for part in (student_logits, teacher_logits, labels)]
        if len(shapes[0]) != 2 or shapes[1] != shapes[0] or shapes[2] != shapes[0][:1]:
            raise ValueError(f"expected logits (N, C) twice and labels (N,), got {shapes}")
        log_q = F.log_softmax(student_logits / self.temperature, dim=1)
        log_p = F.log_softmax(teacher_logits.detach() / self.temperature, dim=1)
        soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)  # KL(p || q)
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard


def to_float(images):
    """Scale images in bytes, as MNIST is kept, to floats from 0 to 1; leave floats as they are."""
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


def shift(images, pixels, which):
    """Images ``(N, channels, H, W)`` shifted by up to ``pixels`` and filled up with zeros.

    ``which`` ``(N,)`` chooses one per image: 0 is furthest down and right, the middle number none.
    """
    side, (height, width) = 2 * pixels + 1, images.shape[2:]
    padded = F.pad(images, [pixels] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view of every shift
    return windows[torch.arange(len(images), device=images.device), :, which // side, which % side]


def soft_labels(teacher, images, jitter=0):
    """The teacher's logits ``(N, C)``; with ``jitter`` ``(N, M, C)``, one entry per shift.

    A frozen teacher's answer is always the same, so it is asked once, not in every epoch. Row i
    belongs to image i, in whatever order the student sees the images.
    """
    if not jitter:
        return predict(teacher, images)
    shifts = torch.arange((2 * jitter + 1) ** 2, device=images.device)
    each = [predict(teacher, shift(images, jitter, k.expand(len(images)))) for k in shifts]
    return torch.stack(each, dim=1)


def train(
    model,
    train_set,  # images (N, channels, height, width), bytes or floats from 0 to 1; labels (N,)
    test_set,  # the same; evaluated after each epoch, never used for selection
    *,
    epochs,
    teacher_logits=None,  # of the training images, from soft_labels; None: learn from labels alone
    distillation_loss=None,  # called with (logits, teacher_logits, labels); None: the default loss
    seed=0,  # of batch order and shifts: models with the same seed see the same batches
    batch_size=128,
    lr=1e-3,  # Adam's learning rate
    one_cycle=False,  # the rate rises to lr and falls to almost 0 (Smith and Topin 2018)
    jitter=0,  # shift every image by up to this many pixels, anew each epoch
    report=None,  # called with (record, epochs) after each epoch
):
    """Train ``model``, alone or distilled, and return its history: a record for each epoch.

    ``FloatingPointError`` if it diverges, ``ValueError`` if the soft labels have a wrong shape.
    """
    (images, labels), shifts = train_set, (2 * jitter + 1) ** 2
    expected = (len(images), shifts) if jitter else (len(images),)
    if teacher_logits is not None and teacher_logits.shape[:-1] != expected:
        raise ValueError(f"soft labels must be {(*expected, 'C')}, not {(*teacher_logits.shape,)}")
    distillation_loss = distillation_loss or DistillationLoss()
    generator = torch.Generator(images.device).manual_seed(seed)  # nothing else draws from it
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    steps = epochs * math.ceil(len(images) / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps) if one_cycle else None
    history = []
    for epoch in range(1, epochs + 1):
        started, total_loss = time.perf_counter(), 0.0
        model.train()
        order = torch.randperm(len(images), generator=generator, device=images.device)
        for batch in order.split(batch_size):
            x, y, index = images.index_select(0, batch), labels[batch], (batch,)
            if jitter:
                which = torch.randint(shifts, y.shape, generator=generator, device=y.device)
                x, index = shift(x, jitter, which), (batch, which)
            logits = model(to_float(x)).float()  # autocast may give bfloat16
            if teacher_logits is None:  # alone
                loss = F.cross_entropy(logits, y)
            else:  # distilled
                loss = distillation_loss(logits, teacher_logits[index], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule:
                schedule.step()
            total_loss += loss.detach() * len(batch)  # a tensor: .item() would wait for a GPU
        record = {"epoch": epoch, "loss": float(total_loss) / len(images)}
        record["seconds"] = time.perf_counter() - started
        test_logits = predict(model, test_set[0])
        record["test_accuracy"] = accuracy(test_logits, test_set[1])
        if not (math.isfinite(record["loss"]) and test_logits.isfinite().all()):
            raise FloatingPointError(f"epoch {epoch}: the loss is NaN or infinite, try a lower lr")
        history.append(record)
        if report:
            report(record, epochs)
    return history


# ================================================================================ data

WARNING = """
*** WARNING: this is NOT MNIST, which is missing and cannot be downloaded. ***
*** The results are for scikit-learn's 1,797 small handwritten digits.     ***"""
MNIST_FILES = {  # with the MD5 of their uncompressed content
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def download_mnist(data_dir, timeout=10):
    """Have torchvision download MNIST, waiting at most ``timeout`` seconds for each answer."""
    from torchvision import datasets as vision  # only here: the import takes a second

    class MNIST(vision.MNIST):  # torchvision names the folder after its class
        mirrors = (*vision.MNIST.mirrors, "https://storage.googleapis.com/cvdf-datasets/mnist/")

    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # torchvision sets none and would wait for ever
    try:
        MNIST(data_dir, download=True)
    finally:
        socket.setdefaulttimeout(previous)


def read_mnist_file(folder, name):
    """One of MNIST's files, gzipped or not, as uint8; ``OSError`` if it is not MNIST's."""
    for path in folder.glob(f"{name}*"):
        content = path.read_bytes()
        with contextlib.suppress(Exception):  # not gzipped, or damaged
            content = gzip.decompress(content)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == MNIST_FILES[name]:
            return torch.frombuffer(bytearray(content), dtype=torch.uint8)
    raise OSError(f"{folder / name}* is damaged or not MNIST: delete it and start again")


def load_mnist(data_dir="data"):
    """MNIST as ``(images, labels), (images, labels)``, training and test; downloaded if missing.

    Images are uint8 ``(N, 1, 28, 28)``, 0 for paper and 255 for ink, labels int64 ``(N,)``.
    ``FileNotFoundError`` if it cannot be downloaded, ``OSError`` if it is damaged.
    """
    folder = Path(data_dir) / "MNIST" / "raw"
    if not all(any(folder.glob(f"{name}*")) for name in MNIST_FILES):
        print(f"Downloading MNIST (12 MB) to {folder} ...", flush=True)
        try:
            download_mnist(data_dir)
        except Exception as error:  # a network can fail in any way
            advice = f"put these files there, gzipped or not: {', '.join(MNIST_FILES)}"
            reason = f"the download failed: {' '.join(str(error).split())}"
            raise FileNotFoundError(f"MNIST is not in {folder}; {advice} ({reason})") from error
    x, y, test_x, test_y = (read_mnist_file(folder, name) for name in MNIST_FILES)
    x, test_x = x[16:].view(-1, 1, 28, 28), test_x[16:].view(-1, 1, 28, 28)  # after the headers
    return (x, y[8:].long()), (test_x, test_y[8:].long())


def load_small_digits():
    """scikit-learn's digits at MNIST's size; test set: the last 597, mostly by new writers."""
    images, labels = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    images = F.interpolate(images, size=(20, 20), mode="bilinear")
    images, labels = F.pad(images, [4] * 4), torch.from_numpy(labels).long()
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def load_data(dataset="auto", data_dir="data"):
    """``(name, training set, test set)``; "auto" is MNIST or, with a warning, the small digits."""
    if dataset != "digits":
        try:
            return "mnist", *load_mnist(data_dir)
        except FileNotFoundError as error:
            if dataset == "mnist":
                raise
            print(f"{WARNING}\n{error}\n", file=sys.stderr, flush=True)
    return "digits", *load_small_digits()


def hold_out(dataset, n, seed=0):
    """Split into two ``(images, labels)``, stratified: the rest, and then the ``n`` held out."""
    parts = train_test_split(*dataset, test_size=n, random_state=seed, stratify=dataset[1])
    return (parts[0], parts[2]), (parts[1], parts[3])


# ================================================================ measuring and figures


def measure(models, test_set, teacher_logits):
    """Results of ``[(model, history), ...]``: the first run's, five of them averaged, and all."""
    (images, labels), runs = test_set, []
    for model, history in models:
        with FlopCounterMode(display=False) as counter:
            predict(model, images[:1])
        started = time.perf_counter()
        logits = predict(model, images).cpu()
        seconds = time.perf_counter() - started
        truth, predicted = labels.cpu().numpy(), logits.argmax(1).numpy()
        p = logits.double().softmax(1).numpy()
        report = metrics.classification_report(truth, predicted, output_dict=True, zero_division=0)
        run = {
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "multiply_adds": counter.get_total_flops() // 2,  # each is two operations
            "ms_per_1000": 1e6 * seconds / len(images),
            "accuracy": float(metrics.accuracy_score(truth, predicted)),
            "errors": int((truth != predicted).sum()),
            "nll": float(metrics.log_loss(truth, p)),
            "agreement": accuracy(logits, teacher_logits.argmax(1)),
            "confidence": float(p.max(1).mean()),
            "top3_accuracy": float(metrics.top_k_accuracy_score(truth, p, k=3)),
            "auc": float(metrics.roc_auc_score(truth, p, multi_class="ovr")),
        }
        runs.append(run | {"report": report, "history": history})
    averaged = ("ms_per_1000", "accuracy", "errors", "nll", "agreement")
    means = {key: float(np.mean([run[key] for run in runs])) for key in averaged}
    return runs[0] | means | {"runs": runs}


def compare(alone, distilled, wrong_alone, wrong_distilled):
    """The gain of distillation, and whether it is more than chance.

    ``alone`` and ``distilled`` are results of ``measure``. Several pairs are judged by Student's t
    interval of the mean difference, a single pair by the exact McNemar test (1947): of two equally
    good models, which one fails, where only one does, would be a coin toss for each image.
    """
    pairs, points_per_error = zip(alone["runs"], distilled["runs"]), 100 / len(wrong_alone)
    fewer = np.array([a["errors"] - d["errors"] for a, d in pairs])
    only_alone = int((wrong_alone & ~wrong_distilled).sum())
    tosses = int((wrong_alone != wrong_distilled).sum())
    p_value = float(stats.binomtest(only_alone, tosses).pvalue) if tosses else 1.0
    significant, interval = p_value < 0.05, None
    if len(fewer) > 1:
        half = stats.t.ppf(0.975, len(fewer) - 1) * stats.sem(fewer)
        interval = [float(points_per_error * (fewer.mean() + side)) for side in (-half, half)]
        significant = 0 < half < abs(fewer.mean())  # no spread, no verdict
    verdict = "better" if fewer.mean() > 0 else "worse"
    gain = {"errors": float(fewer.mean()), "points": float(points_per_error * fewer.mean())}
    gain |= {"p_value": p_value, "interval": interval}
    return gain | {"verdict": verdict if significant else "no difference shown"}


def draw_confusion(labels, logits, title):
    """Counts of true against predicted digit: errors in shades of red, the diagonal in green."""
    counts = metrics.confusion_matrix(labels, logits.argmax(1))
    correct, figure = np.eye(len(counts), dtype=bool), Figure((7, 6), 150, layout="constrained")
    style = {"fmt": "", "cbar": False, "linewidths": 0.5, "linecolor": "0.85"}
    style |= {"annot": np.where(counts, counts, "").astype(str), "ax": figure.subplots()}
    most = max(1, counts[~correct].max())
    seaborn.heatmap(counts, mask=correct, cmap="Reds", vmin=0, vmax=1.5 * most, **style)
    seaborn.heatmap(counts, mask=~correct, cmap=["#e8f1e4"], **style)
    title = f"{title}: distilled student, {counts[~correct].sum()} errors in {len(labels):,}"
    style["ax"].set(xlabel="predicted digit", ylabel="true digit", title=title)
    return figure


def draw_curves(teacher_history, students, title):
    """Loss and test accuracy per epoch of ``{kind: [(model, history), ...]}``: mean and sd."""
    figure = Figure((10, 4), 150, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, key in ((left, "loss"), (right, "test_accuracy")):
        for kind, models in students.items():
            records = [record for _, history in models for record in history]
            x, y = [record["epoch"] for record in records], [record[key] for record in records]
            colour = "tab:blue" if kind == "alone" else "tab:orange"
            seaborn.lineplot(x=x, y=y, ax=axes, errorbar="sd", color=colour, label=kind)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    final = teacher_history[-1]["test_accuracy"]
    right.axhline(final, color="black", linestyle="--", label=f"teacher ({final:.2%})")
    right.legend()
    left.set(xlabel="epoch", ylabel="training loss (two different losses)", yscale="log")
    right.set(xlabel="epoch", ylabel="test accuracy")
    figure.suptitle(f"{title}: one student, two ways to learn")
    return figure


def draw_image_rows(rows, title):
    """A row for each ``(caption, image (1, 28, 28), [(heading, probabilities), ...])``."""
    figure, widths = Figure((10, 1.4 * len(rows) + 0.7), 150, layout="constrained"), (1, 3, 3)
    grid = figure.subplots(len(rows), 3, width_ratios=widths, squeeze=False)
    for (picture, *panels), (caption, image, charts) in zip(grid, rows):
        picture.imshow(image[0].numpy(), cmap="gray_r")
        picture.set(xticks=[], yticks=[])
        picture.set_ylabel(caption, rotation=0, ha="right", va="center", parse_math=False)
        for axes, (heading, probabilities) in zip(panels, charts):
            axes.bar(range(len(probabilities)), probabilities.tolist())
            axes.set(xticks=range(len(probabilities)), ylim=(0, 1), title=heading)
    figure.suptitle(title)
    return figure


def draw_soft_labels(images, labels, logits, temperature, title):
    """Of five classes the image that T changes most; ``logits`` is ``{"teacher": (N, C), ...}``."""
    plain, softened = (F.softmax(logits["teacher"] / t, dim=1) for t in (1, temperature))
    change = (plain - softened).abs().amax(1) * (plain.argmax(1) == labels)  # where it is right
    best = {labels[i].item(): i for i in change.argsort().tolist()}  # the last of each digit
    rows = []
    for i in sorted(best.values(), key=lambda i: -change[i])[:5]:
        answers = [f"{kind}: {answer[i].argmax()}" for kind, answer in logits.items()]
        charts = [("teacher at T = 1", plain[i]), (f"at T = {temperature:g}", softened[i])]
        rows.append(("\n".join([f"true: {labels[i]}", *answers]), images[i], charts))
    return draw_image_rows(rows, f"{title}: what the teacher says beyond the label")


def read_digit(path):
    """An image file's digit as MNIST's makers would have it: ``(1, 1, 28, 28)``, ink 1, paper 0.

    LeCun et al. (1998), section III: inside 20x20 pixels, its centre of mass in the middle.
    """
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file).convert("RGBA")  # undoes the camera's rotation
    opacity = picture.getchannel("A")  # on a transparent background, what is opaque is ink
    picture = (opacity if np.median(opacity) < 128 else picture).convert("RGB")
    picture.thumbnail((200, 200))
    # A window half as wide and high as the image is mostly paper: its median is the paper there.
    paper = picture.resize((32, 32)).filter(ImageFilter.MedianFilter(17)).resize(picture.size)
    ink = np.asarray(ImageChops.difference(picture, paper)).max(axis=2)  # (H, W), 0 to 255
    if ink.max() < 25:
        raise OSError(f"{path}: nothing stands out from the background")
    ink = (ink / ink.max() - 0.2).clip(0) * 255 / 0.8  # shadows and noise are paper
    ink = Image.fromarray(ink.astype(np.uint8))
    ink = ink.crop(ink.getbbox())
    ink = ink.resize([max(1, round(20 * side / max(ink.size))) for side in ink.size])
    row, column = ndimage.center_of_mass(np.asarray(ink))
    digit = Image.new("L", (28, 28))
    digit.paste(ink, (round(14 - column), round(14 - row)))
    return torch.from_numpy(np.array(digit))[None, None] / 255


def build(network, widths=None):
    """A new ``network`` with these layer widths or, without any, with its class's own."""
    return network(widths) if widths else network()


def predict_files(paths, prefix):
    """Print and draw what the networks of the run that wrote ``prefix_*`` read in image files."""
    try:
        settings = json.loads(Path(f"{prefix}_results.json").read_text())["settings"]
        networks = {"student": build(StudentMLP, settings["student_hidden"])}
        networks["teacher"] = build(TeacherCNN, settings["teacher_channels"])
        for kind, network in networks.items():
            weights = torch.load(f"{prefix}_{kind}.pt", map_location="cpu", weights_only=True)
            network.load_state_dict(weights)
    except Exception as error:  # files from elsewhere can fail in any way
        reason = str(error).partition("\n")[0]
        raise OSError(f"cannot load {prefix}_*: run the training first ({reason})") from error
    rows = []
    for path in paths:
        digit = read_digit(path)
        answers = [(kind, predict(net, digit)[0].softmax(0)) for kind, net in networks.items()]
        print(f"{path}: ", *(f"{kind} {p.argmax()} ({p.max():.1%})  " for kind, p in answers))
        rows.append((path.name, digit[0], answers))
    write_whole(f"{prefix}_predictions.png", draw_image_rows(rows, "Your digits").savefig)
    print(f"Wrote {prefix}_predictions.png")


# ======================================================= the experiment and its command line

DIGITS_OPTIONS = "--temperature 8 --alpha 0.9 --runs 3 --teacher-epochs 160 --student-epochs 240"
DIGITS_OPTIONS += " --batch-size 32 --jitter 2"  # what differs from the defaults for MNIST


def train_teacher(train_set, test_set, *, channels=None, seed=0, **settings):
    """A TeacherCNN trained with a one-cycle learning rate, and its history."""
    torch.manual_seed(seed)
    teacher = build(TeacherCNN, channels).to(train_set[0].device)
    return teacher, train(teacher, train_set, test_set, seed=seed, one_cycle=True, **settings)


def train_students(train_set, test_set, teacher_logits, *, seeds, hidden=None, **settings):
    """``[(StudentMLP, history), ...]``, one per seed, which sets initial weights and batches."""
    students = []
    for seed in seeds:
        print(f"\nStudent {'alone' if teacher_logits is None else 'distilled'}, seed {seed}")
        torch.manual_seed(seed)
        student = build(StudentMLP, hidden).to(train_set[0].device)
        settings |= {"seed": seed, "teacher_logits": teacher_logits}
        students.append((student, train(student, train_set, test_set, **settings)))
    return students


def print_epoch(record, epochs):
    """One line an epoch, with the seconds left; about ten lines if there are over 100 epochs."""
    epoch, seconds = record["epoch"], record["seconds"]
    if epochs <= 100 or (epochs - epoch) % (epochs // 10) == 0:
        result = f"loss {record['loss']:.4f}   test accuracy {record['test_accuracy']:.2%}"
        left = f"{seconds:.2f} s   {seconds * (epochs - epoch):.0f} s left"
        print(f"  epoch {epoch:{len(str(epochs))}}/{epochs}   {result}   {left}", flush=True)


def print_results(results):
    """The table of the models, and the gain of distillation with its uncertainty."""
    print(f"\n{'':17}    weights  mult-adds ms/1000 accuracy errors    NLL   agrees")
    row = "{:17} {parameters:10,} {multiply_adds:10,} {ms_per_1000:7.1f} {accuracy:8.2%}"
    row += " {errors:6.4g} {nll:6.3f} {agreement:8.1%}"
    for model in ("teacher", "student_alone", "student_distilled"):
        if results[model]:
            print(row.format(model.replace("_", " "), **results[model]))
    if gain := results["gain"]:
        who, evidence = "This student, distilled", "exact McNemar test, p = {p_value:.2g}"
        if gain["interval"]:
            who = f"Distillation, mean of {len(results['student_alone']['runs'])} pairs"
            evidence = "95 % interval of the mean: {interval[0]:+.2f} to {interval[1]:+.2f} points"
        errors = f"{abs(gain['errors']):.4g} {'more' if gain['errors'] < 0 else 'fewer'} errors"
        print(f"\n{who}: {errors} ({gain['points']:+.2f} points): {gain['verdict']}")
        print(evidence.format(**gain))


def write_whole(path, write):
    """Have ``write(file)`` fill the file ``path``, whole or not at all."""
    content, unfinished = io.BytesIO(), Path(f"{path}.{os.getpid()}")
    write(content)
    try:
        unfinished.write_bytes(content.getvalue())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def run_experiment(args, name, train_set, test_set):
    """Train the teacher, ask it for soft labels, train the pairs, compare, save, print, draw."""
    started = time.perf_counter()
    images, labels = (part.cpu() for part in test_set)
    versions = {package: version(package) for package in ("torch", "torchvision")}
    versions |= {"python": sys.version.split()[0], "threads": torch.get_num_threads()}
    title = "MNIST" if name == "mnist" else "small digits, not MNIST"
    prefix = args.out_dir / (f"dry_run_{name}" if args.dry_run else name)
    tested = "held-out" if args.holdout else "test"
    print(f"{title}: {len(train_set[1]):,} training images, {len(labels):,} {tested} images")
    print(f"\nTeacher, on {args.device}", flush=True)
    common = {"batch_size": args.batch_size, "report": print_epoch}
    settings = {"epochs": args.teacher_epochs, "lr": args.teacher_lr, "jitter": args.jitter}
    settings |= {"channels": args.teacher_channels, "seed": args.seed, **common}
    with torch.autocast(args.device, torch.bfloat16, args.bf16 != "none", cache_enabled=False):
        teacher, history = train_teacher(train_set, test_set, **settings)
        write_whole(f"{prefix}_teacher.pt", lambda file: torch.save(teacher.state_dict(), file))
        teacher_logits = soft_labels(teacher, train_set[0], args.student_jitter)
        logits = {"teacher": predict(teacher, test_set[0]).cpu()}
        results = {"teacher": measure([(teacher, history)], test_set, logits["teacher"])}

    settings = {"epochs": args.student_epochs, "lr": args.lr, "jitter": args.student_jitter}
    settings |= {"hidden": args.student_hidden, "one_cycle": args.one_cycle, **common}
    settings["seeds"] = range(args.seed, args.seed + args.runs)
    students, loss = {}, DistillationLoss(args.temperature, args.alpha)
    with torch.autocast(args.device, torch.bfloat16, args.bf16 == "all", cache_enabled=False):
        if not args.no_control:
            students["alone"] = train_students(train_set, test_set, None, **settings)
        settings["distillation_loss"] = loss
        students["distilled"] = train_students(train_set, test_set, teacher_logits, **settings)
        student = students["distilled"][0][0]
        write_whole(f"{prefix}_student.pt", lambda file: torch.save(student.state_dict(), file))
        for kind, models in students.items():
            logits[kind] = predict(models[0][0], test_set[0]).cpu()
            results[f"student_{kind}"] = measure(models, test_set, logits["teacher"])
    results = {"student_alone": None, "gain": None} | results
    if not args.no_control:
        wrong = [logits[kind].argmax(1) != labels for kind in ("alone", "distilled")]
        results["gain"] = compare(results["student_alone"], results["student_distilled"], *wrong)
    print_results(results)
    results |= {"dataset": name, "settings": vars(args), "environment": versions}
    text = json.dumps(results, indent=1, default=str, allow_nan=False)
    write_whole(f"{prefix}_results.json", lambda file: file.write(text.encode()))

    figures = {
        "confusion_matrix": draw_confusion(labels, logits["distilled"], title),
        "training_curves": draw_curves(history, students, title),
        "soft_labels": draw_soft_labels(images, labels, logits, args.temperature, title),
    }
    for stem, figure in figures.items():
        write_whole(f"{prefix}_{stem}.png", figure.savefig)
    print(f"\nWrote six files {prefix}_* after {time.perf_counter() - started:.0f} seconds.")
    if "ipykernel" in sys.modules:  # in a notebook
        from IPython import display

        display.display(*[display.Image(f"{prefix}_{stem}.png", width=700) for stem in figures])


def in_range(help, convert, low, high, default=None, **options):
    """Options of ``add_argument`` for a number from ``low`` to ``high`` of type ``convert``."""

    def number(text):
        if low <= convert(text) <= high:
            return convert(text)
        raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")

    help = help if default is None else f"{help} (default: {default})"
    return options | {"type": number, "metavar": f"{low}..{high}", "default": default, "help": help}


def build_parser():
    """Every setting, its range and its default; without a usage text, an error is one line."""
    parser = argparse.ArgumentParser("kd_mnist.py", usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.epilog = f"On the small digits the defaults are {DIGITS_OPTIONS}"
    loss, defaults = DistillationLoss(), train.__kwdefaults__
    add = parser.add_argument_group("distillation").add_argument
    add("--temperature", **in_range("T of the loss", float, 0.01, 1000, loss.temperature))
    add("--alpha", **in_range("weight of the teacher's term", float, 0, 1, loss.alpha))
    add("--runs", **in_range("pairs of students, of seeds from --seed on", int, 1, 1000, 1))
    add("--no-control", help="leave out the student that learns alone", action="store_true")
    add = parser.add_argument_group("teacher").add_argument
    add("--teacher-epochs", **in_range("passes through the data", int, 1, 10_000, 5))
    add("--teacher-lr", **in_range("peak of the one-cycle rate", float, 1e-8, 1000, 3e-3))
    add("--teacher-channels", **in_range("widths of the convolutions", int, 1, 10_000, nargs=2))
    add("--jitter", **in_range("shift its images, in pixels", int, 0, 4, 1))
    add = parser.add_argument_group("students").add_argument
    add("--student-epochs", **in_range("passes through the data", int, 1, 10_000, 20))
    add("--lr", **in_range("Adam's learning rate", float, 1e-8, 1000, defaults["lr"]))
    add("--one-cycle", help="learning rate up to --lr and down again", action="store_true")
    add("--student-hidden", **in_range("widths of hidden layers", int, 1, 10_000, nargs="+"))
    add("--student-jitter", **in_range("shift their images, in pixels", int, 0, 4, 0))
    add = parser.add_argument_group("data").add_argument
    auto, path = {"default": "auto"}, {"type": Path, "metavar": "PATH"}
    add("--dataset", help="auto: mnist or else digits", choices=("auto", "mnist", "digits"), **auto)
    add("--data-dir", help="has MNIST/raw in it (default: data)", default="data", **path)
    add("--subset", **in_range("train on so many images, test on a sixth", int, 100, 60_000))
    add("--holdout", **in_range("hold out training images, test on them", int, 100, 60_000))
    add = parser.add_argument_group("running").add_argument
    add("--batch-size", **in_range("images an update", int, 1, 60_000, defaults["batch_size"]))
    add("--seed", **in_range("of weights, batches, shifts and splits", int, 0, 2**31, 0))
    add("--device", help="auto: cuda if there is one", choices=("auto", "cpu", "cuda"), **auto)
    modes = {"choices": ("auto", "none", "teacher", "all"), "nargs": "?", "const": "all", **auto}
    add("--bf16", help="16-bit products; auto: the teacher's, on a CPU with AMX", **modes)
    add("--out-dir", help="for the six files (default: .)", default=".", **path)
    add("--dry-run", help="300 images and one epoch, to try every stage", action="store_true")
    add("--predict", help="no training: read these image files", nargs="+", **path)
    return parser


def main(argv=None):
    """Run the command line ``argv``, by default this process's own; return its exit code."""
    if argv is None:  # pasted into a notebook, this file sees the kernel's arguments
        argv = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: this machine, or its torch, has no cuda")
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out_dir).close()
    except OSError as error:
        parser.error(f"argument --out-dir: {args.out_dir}: {error.strerror}")
    try:
        if args.predict:
            name = "mnist" if (args.out_dir / "mnist_results.json").is_file() else "digits"
            name = name if args.dataset == "auto" else args.dataset
            predict_files(args.predict, args.out_dir / name)
            return 0
        name, *sets = load_data(args.dataset, args.data_dir)
        if name == "digits":
            args = parser.parse_args([*DIGITS_OPTIONS.split(), *argv])
        if args.dry_run:
            args.subset, args.teacher_epochs, args.student_epochs, args.runs = 300, 1, 1, 1
        try:
            if args.holdout:
                sets = hold_out(sets[0], args.holdout, args.seed)
            if args.subset:
                sizes = (args.subset, args.subset // 6)
                sets = [hold_out(part, n, args.seed)[1] for part, n in zip(sets, sizes)]
        except ValueError as error:
            parser.error(f"argument --holdout or --subset: {error}")
        if args.device == "auto":
            args.device = "cuda" if torch.cuda.is_available() else "cpu"
        if args.bf16 == "auto":  # older versions of torch have no get_capabilities
            amx = getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False)
            args.bf16 = "teacher" if amx and args.device == "cpu" else "none"
        run_experiment(args, name, *[[part.to(args.device) for part in chosen] for chosen in sets])
        if args.dry_run:
            print("This was a dry run: every stage works, and its numbers mean nothing.")
        if args.dataset == "auto" and name == "digits":
            print(WARNING)
    except KeyboardInterrupt:
        print("\nkd_mnist.py: interrupted", file=sys.stderr)
        return 130
    except (OSError, FloatingPointError, Image.DecompressionBombError) as error:
        print(f"kd_mnist.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if exit_code := main():  # a notebook shows even exit(0) as an error
        sys.exit(exit_code)
