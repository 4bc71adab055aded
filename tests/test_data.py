"""Getting the data: MNIST's files in every state, downloads that fail, splits, small digits."""

import gzip
import hashlib
import socket
import urllib.request

import numpy as np
import pytest
import torch
from conftest import OFFLINE
from torchvision.datasets import MNIST

import kd_mnist

NAMES = [
    f"{p}-{k}-ubyte" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")
]


@pytest.fixture(scope="module")
def fake_mnist():
    """Four files of MNIST's size, gzipped and not, the first image black; and their labels."""
    random, labels, files = np.random.default_rng(0), [], {}
    for name in NAMES:
        shape = (60_000 if "train" in name else 10_000,)
        content = np.zeros((*shape, 28 * 28), np.uint8)
        content[0] = 255
        if "images" in name:
            shape = (*shape, 28, 28)
        else:
            content = random.integers(0, 10, shape, np.uint8)
            labels.append(content)
        header = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
        plain = header + content.tobytes()
        files[name] = (plain, gzip.compress(plain, 1))
    return labels, files


@pytest.fixture
def offline(monkeypatch, fake_mnist):
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        urllib.request, "_opener", None
    )  # it may remember another proxy
    sums = [
        (f"{name}.gz", hashlib.md5(zipped).hexdigest())
        for name, (_, zipped) in fake_mnist[1].items()
    ]
    monkeypatch.setattr(MNIST, "resources", sums)


@pytest.mark.parametrize("gzipped", [False, True])
def test_mnist_is_read_gzipped_or_not(fake_mnist, offline, tmp_path, gzipped):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, both in fake_mnist[1].items():
        (raw / f"{name}{'.gz' if gzipped else ''}").write_bytes(both[gzipped])
    (images, labels), (test_images, test_labels) = kd_mnist.load_mnist(tmp_path)
    assert images.shape == (60_000, 1, 28, 28) and test_images.shape == (
        10_000,
        1,
        28,
        28,
    )
    assert (
        images.dtype == torch.float32
        and labels.dtype == test_labels.dtype == torch.int64
    )
    assert images.min() == 0 and images.max() == 1
    np.testing.assert_array_equal(labels, fake_mnist[0][0])
    np.testing.assert_array_equal(test_labels, fake_mnist[0][1])


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "web page", "label 10", "fewer", "cut gzip"]
)
def test_a_damaged_folder_is_one_line(fake_mnist, offline, tmp_path, damage):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, (plain, _) in fake_mnist[1].items():
        (raw / name).write_bytes(plain)
    damaged = {
        "cut": plain[:-1],
        "empty": b"",
        "web page": b"<html>please log in</html>",
    }
    damaged["label 10"] = plain[:-1] + b"\x0a"
    damaged["fewer"] = np.array([0x801, 5], ">u4").tobytes() + b"\0\1\2\3\4"
    if damage == "cut gzip":
        (raw / name).unlink()
        (raw / f"{name}.gz").write_bytes(gzip.compress(plain)[:-9])
    else:
        (raw / name).write_bytes(damaged[damage])
    arguments = [
        "--dataset",
        "mnist",
        "--data-dir",
        str(tmp_path),
        "--out-dir",
        str(tmp_path),
    ]
    with pytest.raises(SystemExit) as stop:
        kd_mnist.main(arguments)
    error = str(stop.value.code)
    assert str(raw) in error and "empty it" in error
    assert error.startswith("kd_mnist.py: error: ") and "\n" not in error


def test_without_network_auto_warns_and_mnist_asks_for_its_files(
    tmp_path, offline, capsys
):
    name, (images, _), (_, test_labels) = kd_mnist.load_data("auto", tmp_path)
    assert (name, images.shape, len(test_labels)) == ("digits", (1200, 1, 28, 28), 597)
    assert (
        images.min() == images[:, :, :4].sum() == images[..., -4:].sum() == 0
    )  # 20x20 in 28x28
    assert "WARNING: small digits are used, NOT MNIST" in capsys.readouterr().err
    with pytest.raises(OSError, match="gzipped or not") as error:
        kd_mnist.load_data("mnist", tmp_path)
    folder, message = str(tmp_path / "MNIST" / "raw"), str(error.value)
    assert all(part in message for part in (*NAMES, folder)) and "\n" not in message


def test_another_name_is_no_data_set():
    for name in ("cifar10", "Digits"):
        with pytest.raises(ValueError, match='"auto", "mnist" or "digits"'):
            kd_mnist.load_data(name)


def test_a_download_has_a_time_out_and_a_third_mirror(tmp_path, monkeypatch):
    seen, before = [], socket.getdefaulttimeout()

    def download(self):
        seen.append((socket.getdefaulttimeout(), len(self.mirrors)))
        raise OSError("silence\nfor ever")

    monkeypatch.setattr(MNIST, "download", download)
    monkeypatch.setattr(MNIST, "mirrors", ["first", "second"])
    for _ in range(2):
        with pytest.raises(OSError, match="silence for ever"):
            kd_mnist.load_mnist(tmp_path)
    assert seen == [(10, 3)] * 2 and socket.getdefaulttimeout() == before


def test_hold_out_is_stratified_and_repeatable():
    labels = torch.arange(1000) % 10
    labels[labels == 9] = 0  # class 0 twice as often, class 9 never
    numbers = torch.arange(1000)
    (rest, rest_labels), (held, held_labels) = kd_mnist.hold_out(
        (numbers, labels), 100, seed=3
    )
    assert torch.equal(
        torch.cat([rest, held]).sort().values, numbers
    )  # each image once
    assert torch.equal(labels[rest], rest_labels) and torch.equal(
        labels[held], held_labels
    )
    assert torch.bincount(held_labels, minlength=10).tolist() == [20, *[10] * 8, 0]
    assert torch.equal(kd_mnist.hold_out((numbers, labels), 100, seed=3)[1][0], held)
    assert not torch.equal(
        kd_mnist.hold_out((numbers, labels), 100, seed=4)[1][0], held
    )
    limits = {0: "in the range", 8: "classes = 9", 992: "train_size = 8 .*classes = 9"}
    for n, limit in {**limits, 1000: "samples 1000", 2000: "samples 1000"}.items():
        with pytest.raises(ValueError, match=limit):
            kd_mnist.hold_out((numbers, labels), n)


def test_repeat_shows_each_image_as_often():
    images, labels = kd_mnist.repeat((torch.rand(5, 1, 4, 4), torch.arange(5)), 3)
    assert torch.bincount(labels).tolist() == [3] * 5
    assert torch.equal(images[:5], images[10:]) and len(images) == 15
