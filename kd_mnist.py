"""Knowledge distillation on MNIST: a fast network learns from a better one.

    python kd_mnist.py              # teacher, student alone, the same student distilled
    python kd_mnist.py --help       # every setting

Train a teacher; look at some of its soft labels; train a student without them; train
the same student with them; compare. The loss, and the idea that only the teacher sees
moved images, are those of Hinton, Vinyals and Dean (2015), arXiv:1503.02531; the method
ends with ``train_pairs``. N is the number of images, C that of classes (here 10).
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
from importlib.metadata import version

import numpy as np
import seaborn
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy import stats
from sklearn import datasets, metrics
from sklearn.model_selection import train_test_split
from torch import nn

# %% The two networks


class TeacherCNN(nn.Module):
    """Two convolutions, one linear layer: ``(N, 1, 28, 28)`` to logits ``(N, 10)``."""

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
    """One hidden layer, 784 -> 128 -> 10: ``(N, 1, 28, 28)`` to logits ``(N, 10)``.

    It has five times the teacher's weights, but a tenth of its multiplications: a
    convolution uses each of its weights again at every place.
    """

    def __init__(self, hidden=128, image_shape=(1, 28, 28), classes=10):
        pixels = math.prod(image_shape)
        super().__init__(
            nn.Flatten(),  # (N, 784)
            nn.Linear(pixels, hidden),  # (N, 128)
            nn.ReLU(),
            nn.Linear(hidden, classes),  # (N, 10)
        )


# %% The loss


class DistillationLoss(nn.Module):
    """Learn from soft and hard labels at once: Hinton et al. (2015), section 2.

        alpha * T^2 * KL(p || q) + (1 - alpha) * cross_entropy(student, labels)
        where p = softmax(teacher / T) and q = softmax(student / T)

    A hard label says "7". A soft label, the teacher's probabilities of all classes,
    says "7, but a bit like a 2": that is worth learning. The divergence KL(p || q) says
    how far the student's probabilities q are from the teacher's p: 0 if they are equal.

    A ``temperature`` T above 1 softens p and q, so that small probabilities count. A
    high T makes the gradient shrink like 1/T^2: once as logits are divided by T, once
    as p and q become flat and so more alike. The factor T^2 makes up for that.

    ``alpha``, from 0 to 1, is the *teacher's* weight: 0 ignores the teacher, 1 ignores
    the labels (if there are none, give zeros). Both terms are means over the images of
    the batch: ``batchmean``. (``mean``, torch's default, also divides by C.)

    Takes the logits ``(N, C)`` of student and teacher, not probabilities, and int64
    labels ``(N,)``; returns a scalar. No gradient reaches the teacher. ``ValueError``
    if the logits are not both ``(N, C)``, if C is 1, and for T or alpha out of range.
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
        if student_logits.shape != teacher_logits.shape:  # (1, C) would be repeated
            raise ValueError("logits of student and teacher must have the same shape")
        if student_logits.ndim != 2:  # batchmean would add up what is not a class
            raise ValueError("logits must be (N, C): a row for each prediction")
        if student_logits.shape[1] == 1:  # softmax makes it 1: nothing is learned
            raise ValueError("one class is not enough: write one logit z as (0, z)")
        # torch wants q first, and both as logarithms.
        log_q = F.log_softmax(student_logits / self.temperature, dim=1)
        log_p = F.log_softmax(teacher_logits.detach() / self.temperature, dim=1)
        soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        hard = F.cross_entropy(student_logits, labels)
        return self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard


# %% Predictions, and moved images


@torch.no_grad()
def predict(model, images, batch_size=128):
    """Logits ``(N, C)`` of ``model`` for ``images``, in evaluation mode, as float32.

    Afterwards all parts of the model are in the mode that ``model`` itself had before.
    """
    was_training = model.training
    model.eval()
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        output = model(batch.clone())  # a model may change its input in place
        if start == 0:  # one tensor for all images needs less memory than many
            logits = torch.empty(len(images), output.shape[1], device=output.device)
        logits[start : start + batch_size] = output
    model.train(was_training)
    return logits


def accuracy(logits, labels):
    """Share of the N images whose largest logit is that of their label."""
    return (logits.argmax(1) == labels).float().mean().item()


def random_shift(images, max_shift=1):
    """Move a batch ``(N, channels, height, width)`` by up to ``max_shift`` pixels.

    All its images move alike, down or up and right or left; new pixels are 0. The
    random numbers are those of torch's global generator.
    """
    down, right = torch.randint(-max_shift, max_shift + 1, (2,)).tolist()
    return F.pad(images, (right, -right, down, -down))  # negative: cut off there


# %% Training


def train(
    model,
    train_set,  # images (N, channels, height, width), 0 to 1, and labels (N,), int64
    test_set,  # the same; evaluated after each epoch, never used to choose anything
    *,
    epochs,
    teacher_logits=None,  # (N, C), from predict(teacher, images); None: labels alone
    distillation_loss=None,  # f(logits, teacher_logits, labels), only to distil
    transform=None,  # changes each training batch, never a test image: random_shift
    seed=0,  # orders the images: models with the same seed see the same batches
    batch_size=128,  # at most; the batches of an epoch are nearly equal in size
    lr=7e-3,  # one cycle: Adam's rate rises to lr, then falls (Smith and Topin 2018)
    verbose=True,  # print a line for each epoch
):
    """Train ``model``, alone or distilled, and return its history: a record per epoch.

    ``ValueError`` for some mistakes in data or logits that nothing else would show,
    ``FloatingPointError`` if training diverges.
    """
    for x, y in (train_set, test_set):
        if len(x) != len(y):
            raise ValueError(f"{len(x)} images, but {len(y)} labels")
        if x.max() > 100:
            raise ValueError("images must be from 0 to 1: divide them by 255")
    images, labels = train_set
    steps = math.ceil(len(images) / batch_size)  # in each epoch
    if epochs * steps < 4:  # the rate would never rise
        raise ValueError("one cycle needs 4 steps: more epochs, or smaller batches")
    if teacher_logits is not None:
        if transform is not None:
            raise ValueError("teacher_logits are of images not moved: no transform")
        if len(teacher_logits) != len(images):
            raise ValueError(f"{len(teacher_logits)} logits for {len(images)} images")
        if not teacher_logits.isfinite().all():
            raise ValueError("teacher_logits are not all finite numbers")
        sums = teacher_logits.sum(1)
        if teacher_logits.min() >= 0 and (sums - 1).abs().max() < 0.02:
            raise ValueError("probabilities: give logits, or their logarithm")
    distillation_loss = distillation_loss or DistillationLoss()
    loss_name = "cross-entropy" if teacher_logits is None else "distillation loss"
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    generator = torch.Generator().manual_seed(seed)  # nothing else draws from it
    torch.set_autocast_cache_enabled(False)  # autocast would keep copies of old weights
    history = []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        total_loss = 0.0
        model.train()
        order = torch.randperm(len(images), generator=generator, device="cpu")
        for batch in order.to(images.device).tensor_split(steps):  # indices of images
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
            schedule.step()
            total_loss += loss.detach() * len(batch)  # .item() is slow on a GPU
        record = {"epoch": epoch, "loss": float(total_loss) / len(images)}
        record["seconds"] = time.perf_counter() - started
        if not math.isfinite(record["loss"]):
            raise FloatingPointError(f"epoch {epoch}: not finite: use a lower lr")
        record["test_accuracy"] = accuracy(predict(model, test_set[0]), test_set[1])
        history.append(record)
        if verbose:
            line = f"  epoch {epoch:2}/{epochs}   {loss_name} {record['loss']:.4f}"
            line += f"   test accuracy {record['test_accuracy']:.2%}"
            print(f"{line}   {record['seconds']:.1f} s", flush=True)
    model.eval()
    return history


# %% The teacher's soft labels


def show_soft_labels(teacher, images, labels, temperature=2.0):
    """Print four of the teacher's soft labels, from clear to doubtful; return a Figure.

    If possible, the teacher is right about the four, and they are of four classes.
    """
    logits = predict(teacher, images).cpu()
    labels = labels.cpu()
    largest, predicted = logits.softmax(1).max(1)
    classes = np.arange(logits.shape[1])
    penalty = (predicted != labels).float()  # what is read wrong comes last
    figure = Figure((9, 4.5), dpi=150, layout="constrained")
    grid = figure.subplots(2, 4, sharey="row")
    print("\nThe teacher's soft labels of four training images (class: probability)")
    for column, wanted in enumerate((0.999, 0.9, 0.7, 0.5)):
        i = int(((largest - wanted).abs() + penalty).argmin())
        penalty[labels == labels[i]] += 1  # and then what is of a class already shown
        picture, chart = grid[:, column]
        picture.imshow(images[i].permute(1, 2, 0).cpu().numpy(), cmap="gray_r")
        picture.set(xticks=[], yticks=[], title=f"label {labels[i]}")
        for t, place, colour in ((1.0, -0.2, "0.75"), (temperature, 0.2, "0.25")):
            p = (logits[i] / t).softmax(0)
            line = f"  label {labels[i]}   T = {t:<4g}"
            for k in p.argsort(descending=True)[:3]:
                line += f"   {k}: {p[k]:.3f}"
            print(line)
            bars = classes + place
            chart.bar(bars, p.tolist(), 0.4, color=colour, label=f"T = {t:g}")
        chart.set(xticks=classes, ylim=(0, 1))
    grid[1, 0].set_ylabel("probability")
    grid[1, 0].legend()
    sure = (largest > 0.9).float().mean().item()
    print(f"  (Picked ones: in {sure:.0%} of the images, one class has over 0.9.)")
    return figure


# %% The experiment


def measure(name, seed, network, history, test_set):
    """A record of a trained network: numbers and lists, for JSON."""
    images, labels = test_set[0], test_set[1].cpu()
    logits = predict(network, images).cpu()
    predicted = logits.argmax(1)
    moved = F.pad(images, (1, -1, 1, -1))  # one pixel right and one down
    predicted_moved = predict(network, moved).argmax(1).cpu()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        predict(network, images[:1000]).cpu()  # .cpu() waits for a GPU
        seconds.append(time.perf_counter() - started)
    classes = range(logits.shape[1])
    counts = metrics.confusion_matrix(labels, predicted, labels=classes)
    report = metrics.classification_report(
        labels, predicted, labels=classes, output_dict=True, zero_division=0
    )
    return {
        "network": name,
        "seed": seed,
        "weights": sum(weight.numel() for weight in network.parameters()),
        "milliseconds": 1e6 * min(seconds) / min(1000, len(images)),  # for 1,000 images
        "accuracy": accuracy(logits, labels),
        "errors": int((predicted != labels).sum()),
        "errors_moved": int((predicted_moved != labels).sum()),
        "confusion_matrix": counts.tolist(),  # a row for each true class
        "report": report,  # precision, recall and F1 of each class
        "history": history,
    }


def train_pairs(
    teacher,  # a trained network, on the device of the images
    train_set,  # as for train
    test_set,
    *,
    distillation_loss=None,  # the control learns with plain cross-entropy all the same
    new_student=StudentMLP,  # a class or function that makes a student, for each pair
    epochs=20,
    pairs=1,
    seed=0,  # of the first pair; the next one has seed + 1
    batch_size=128,
    lr=7e-3,
):
    """Train pairs of students, in each one alone and one distilled from ``teacher``.

    The student alone is the control: it lacks nothing but the teacher's logits. Returns
    two lists that belong together: the networks, and a record of each. The teacher is
    first, then alone, distilled, alone, distilled ... ``ValueError`` if teacher and
    student differ in their number of classes.
    """
    images = train_set[0]
    teacher_logits = predict(teacher, images)  # once: they never change
    networks = [teacher]
    records = [measure("teacher", seed, teacher, [], test_set)]
    for pair_seed in range(seed, seed + pairs):
        torch.manual_seed(pair_seed)
        untrained = new_student().to(images.device)
        classes = predict(untrained, images[:1]).shape[1]
        if classes != teacher_logits.shape[1]:
            raise ValueError(f"student: {classes} classes, not those of the teacher")
        for name, logits in (
            ("student alone", None),
            ("student distilled", teacher_logits),
        ):
            print(f"\n{name}, seed {pair_seed}")
            student = copy.deepcopy(untrained)  # the same initial weights,
            torch.manual_seed(pair_seed)  # the same dropout, if it has any,
            history = train(
                student,
                train_set,
                test_set,
                epochs=epochs,
                teacher_logits=logits,
                distillation_loss=distillation_loss,
                seed=pair_seed,  # and the same batches
                batch_size=batch_size,
                lr=lr,
            )
            networks.append(student)
            records.append(measure(name, pair_seed, student, history, test_set))
    return networks, records


# %% Its results


def errors_saved(records):
    """Errors of the student alone less those of the distilled one, for each pair."""
    alone = [r["errors"] for r in records if r["network"] == "student alone"]
    distilled = [r["errors"] for r in records if r["network"] == "student distilled"]
    return [a - d for a, d in zip(alone, distilled)]


def interval(values):
    """The 95 % interval (low, high) of the mean of the values, by Student's t."""
    margin = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - margin), float(np.mean(values) + margin)


def print_results(networks, records, test_set):
    """Print a table of means over the pairs, what is saved, and five predictions."""
    print(f"\n{'':18}{'weights':>9}{'ms':>7}{'accuracy':>10}{'errors':>8}{'moved':>8}")
    for name in dict.fromkeys(record["network"] for record in records):  # each once
        same = [record for record in records if record["network"] == name]
        ms = np.mean([record["milliseconds"] for record in same])
        right = np.mean([record["accuracy"] for record in same])
        errors = np.mean([record["errors"] for record in same])
        moved = np.mean([record["errors_moved"] for record in same])
        line = f"{name:18}{same[0]['weights']:9,}{ms:7.1f}{right:10.2%}"
        print(f"{line}{round(errors, 1):8,g}{round(moved, 1):8,g}")
    print("  ms: milliseconds for 1,000 images")
    print("  moved: errors if each image is moved one pixel down and one right")

    saved = errors_saved(records)
    print(f"\nErrors saved by distillation: {round(np.mean(saved), 1):g}")
    if len(saved) == 1:
        print("One pair of students may be luck: --runs 5 trains five pairs.")
    else:
        low, high = interval(saved)
        verdict = "no difference is shown"
        if 0 < low < high:  # low = high tells nothing: all pairs saved the same number
            verdict = "distillation helps"
        if low < high < 0:
            verdict = "distillation hurts"
        print(f"{len(saved)} pairs with this teacher, 95 % interval", end=" ")
        print(f"{low:.1f} to {high:.1f} errors saved:\n{verdict}.")

    images, labels = test_set
    print("\nThe first 5 test images")
    print(f"  {'label':18}{labels[:5].cpu().tolist()}")
    for network, record in zip(networks[:3], records):
        predicted = predict(network, images[:5]).argmax(1).cpu()
        print(f"  {record['network']:18}{predicted.tolist()}")


# %% Figures


def draw_curves(records, title=""):
    """A Figure of the test error after each epoch; mean and deviation if several."""
    epochs = []
    percent = []
    names = []
    for record in records:
        for epoch in record["history"]:
            epochs.append(epoch["epoch"])
            percent.append(100 - 100 * epoch["test_accuracy"])
            names.append(record["network"])
    figure = Figure((7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("symlog", linthresh=0.5, linscale=0.4)  # like "log", but has a 0
    seaborn.lineplot(
        x=epochs,
        y=percent,
        hue=names,
        style=names,
        markers=True,
        errorbar="sd",
        ax=axes,
    )
    ticks = (0, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(0, 1.1 * max(percent))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="test error, %", title=title)
    axes.grid(alpha=0.3)
    return figure


def draw_confusion(records, names=None):
    """A Figure of a confusion matrix for each record, true against predicted class.

    Colour shows the errors, on one scale for all. ``names``: one for each class.
    """
    figure = Figure((7, 6.2 * len(records)), dpi=150, layout="constrained")
    grid = figure.subplots(len(records), squeeze=False)
    counts = np.array([record["confusion_matrix"] for record in records])
    classes = counts.shape[1]
    errors = counts * (1 - np.eye(classes))  # without the diagonal
    names = range(classes) if names is None else names
    longest = max(len(str(name)) for name in names)
    middles = np.arange(classes) + 0.5  # of the cells
    for i, record in enumerate(records):
        axes = grid[i, 0]
        seaborn.heatmap(
            errors[i],
            vmin=0,
            vmax=max(1, errors.max()),
            cmap="Reds",
            cbar=False,
            annot=np.where(counts[i], counts[i], ""),
            fmt="",
            xticklabels=False,  # set below: seaborn would need much memory
            yticklabels=False,
            ax=axes,
        )
        axes.set_xticks(middles, names, rotation=90 if longest > 3 else 0)
        axes.set_yticks(middles, names)
        title = f"{record['network']}: {record['errors']:,} errors"
        axes.set(xlabel="predicted", ylabel="true", title=title)
    return figure


# %% Data


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
    sets = []
    try:
        for is_train, n in ((True, 60_000), (False, 10_000)):
            part = MNIST(data_dir, is_train, download=True)
            if not len(part.data) == len(part.targets) == n or part.targets.max() > 9:
                raise ValueError(f"not {n:,} images and labels from 0 to 9")
            images = part.data[:, None].float().div_(255)  # in place: less memory
            sets.append((images, part.targets))
    except Exception as error:  # a network or a file can fail in any way
        reason = " ".join(str(error).split())[:1000]  # in one line
        names = ", ".join(name.removesuffix(".gz") for name, _ in MNIST.resources)
        problem = f"no MNIST in {data_dir}/MNIST/raw ({reason})"
        advice = f"empty that folder and put there, gzipped or not: {names}"
        raise OSError(f"{problem}; {advice}") from error
    finally:
        socket.setdefaulttimeout(previous)
    return sets


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
    if dataset not in ("auto", "mnist", "digits"):
        raise ValueError(f'dataset: "auto", "mnist" or "digits", not "{dataset}"')
    if dataset != "digits":
        try:
            return "mnist", *load_mnist(data_dir)
        except OSError as error:
            if dataset == "mnist":
                raise
            warning = "WARNING: small digits are used, NOT MNIST"
            print(f"{warning}: {error}", file=sys.stderr)
    return "digits", *load_small_digits()


# %% Command line


def parse_arguments(argv):
    """The settings of a run; a count, rate, T or alpha out of range ends it."""
    parser = argparse.ArgumentParser(
        description="Train a teacher, and the same student twice: alone and distilled.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--temperature", type=float, default=2.0, help="T: softens the soft labels")
    add("--alpha", type=float, default=0.5, help="weight of the teacher, 0 to 1")
    add("--teacher-epochs", type=int, default=5, help="epochs of the teacher")
    add("--student-epochs", type=int, default=20, help="epochs of each student")
    add("--student-hidden", type=int, default=128, help="hidden units of a student")
    add("--batch-size", type=int, default=128, help="images in a training step")
    add("--lr", type=float, default=7e-3, help="highest learning rate")
    add("--runs", type=int, default=1, help="pairs of students, alone and distilled")
    add("--seed", type=int, default=0, help="seed of the teacher and the first pair")
    held = "training images to set aside and test on, in place of the test set"
    add("--holdout", type=int, default=0, help=held)
    data = "digits: scikit-learn's small ones; auto: mnist, or digits if it is missing"
    add("--dataset", choices=("auto", "mnist", "digits"), default="auto", help=data)
    add("--data-dir", default="data", help="folder that holds MNIST/raw")
    add("--out-dir", default=".", help="folder for all that is written")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", default=device, help="cpu, cuda, cuda:1 ...")
    args = parser.parse_args(argv)
    for name in ("teacher_epochs", "student_epochs", "student_hidden", "batch_size"):
        if vars(args)[name] < 1:
            parser.error(f"{name} must be at least 1")
    if not (args.runs > 0 and args.lr > 0):
        parser.error("runs and lr must be above 0")
    try:
        DistillationLoss(args.temperature, args.alpha)
    except ValueError as error:
        parser.error(str(error))
    return args


def save(start, networks, results, soft_labels):
    """Write weights, results and last the figures, to files that begin with ``start``.

    Weights are those of the teacher and of the first pair, matrices those of the pair.
    """
    names = ("teacher", "student_alone", "student_distilled")
    for name, network in zip(names, networks):
        weights = {key: weight.cpu() for key, weight in network.state_dict().items()}
        torch.save(weights, f"{start}{name}.pt")
    with open(f"{start}results.json", "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1, allow_nan=False)
    records = results["records"]
    for name, figure in (
        ("soft_labels", soft_labels),
        ("training_curves", draw_curves(records, results["data"])),
        ("confusion_matrix", draw_confusion(records[1:3])),
    ):
        figure.savefig(f"{start}{name}.png")
        if "ipykernel" in sys.modules:  # a notebook: show it, too
            from IPython.display import Image, display

            display(Image(f"{start}{name}.png"))


def main(argv=None):
    """The whole experiment; returns its networks and records, as ``train_pairs``.

    ``argv`` are the arguments, by default those of the command line.
    """
    started = time.perf_counter()
    if argv is None:
        # In a notebook, sys.argv holds the arguments of the notebook's own kernel.
        argv = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
    args = parse_arguments(argv)
    os.makedirs(args.out_dir, exist_ok=True)
    if not os.access(args.out_dir, os.W_OK):  # better now than after all training
        raise OSError(f"cannot write to {args.out_dir}")
    torch.set_flush_denormal(True)  # gradients near 0 would slow some processors down

    name, train_set, test_set = load_data(args.dataset, args.data_dir)
    title = "MNIST" if name == "mnist" else "small digits, not MNIST"
    if args.holdout:
        images, held_images, labels, held_labels = train_test_split(
            *train_set, test_size=args.holdout, stratify=train_set[1], random_state=0
        )
        train_set = images, labels
        test_set = held_images, held_labels
        title += ", held-out training images"
    n = len(train_set[0])
    print(f"{title}: {n:,} images to train on, {len(test_set[0]):,} to test on")
    if name == "digits":  # only now: no copy of a training image may be held out
        print("An epoch shows each of these few images 20 times.")
        train_set = train_set[0].repeat(20, 1, 1, 1), train_set[1].repeat(20)
    train_set = [part.to(args.device) for part in train_set]
    test_set = [part.to(args.device) for part in test_set]
    results = {
        "command": shlex.join(["python", "kd_mnist.py", *argv]),
        "data": title,
        "settings": vars(args),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    for package in ("torch", "torchvision", "scikit-learn"):
        results[package] = version(package)
    line = f"on {args.device}, threads: {results['threads']}"
    if results["threads"] > 1:
        line += " (beside other programs, OMP_NUM_THREADS=1 is faster)"
    print(line)

    print("\nteacher\n  It sees images moved by up to a pixel (in the 2015 paper, 2);")
    print("  the students never do. Column 'moved': errors on moved images.")
    torch.manual_seed(args.seed)  # of the initial weights and of the moves
    teacher = TeacherCNN().to(args.device)
    history = train(
        teacher,
        train_set,
        test_set,
        epochs=args.teacher_epochs,
        transform=random_shift,
        seed=args.seed,
        batch_size=args.batch_size,
        lr=args.lr,
    )
    soft_labels = show_soft_labels(
        teacher, train_set[0][:5000], train_set[1][:5000], args.temperature
    )
    networks, records = train_pairs(
        teacher,
        train_set,
        test_set,
        distillation_loss=DistillationLoss(args.temperature, args.alpha),
        new_student=lambda: StudentMLP(args.student_hidden),
        epochs=args.student_epochs,
        pairs=args.runs,
        seed=args.seed,
        batch_size=args.batch_size,
        lr=args.lr,
    )
    records[0]["history"] = history
    print_results(networks, records, test_set)

    results["errors_saved"] = errors_saved(records)
    results["records"] = records
    results["seconds"] = time.perf_counter() - started
    start = f"{args.out_dir}/{name}_"
    save(start, networks, results, soft_labels)
    print(f"\nFiles: {start}*, after {time.perf_counter() - started:.0f} s")
    return networks, records


if __name__ == "__main__":
    try:
        networks, records = main()
    except (OSError, FloatingPointError) as error:
        sys.exit(f"kd_mnist.py: error: {error}")
