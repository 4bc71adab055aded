"""Getting the data: MNIST's files, no network, damage, the small digits."""

import gzip
import hashlib

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

import kd_mnist

SIZES = {"train": 60_000, "t10k": 10_000}


@pytest.fixture(scope="module")
def fake_mnist():
    """Files of MNIST's names and sizes, ``{name: bytes}``; the first image is black."""
    files = {}
    for part, n in SIZES.items():
        images = np.zeros((n, 28, 28), np.uint8)
        images[0] = 255
        labels = (np.arange(n) % 10).astype(np.uint8)
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            header = np.array([0x800 + content.ndim, *content.shape], ">u4")
            name = f"{part}-{kind}-ubyte"
            files[name] = header.tobytes() + content.tobytes()
    return files


@pytest.fixture
def raw(tmp_path, monkeypatch, fake_mnist, offline):
    """The folder for MNIST's files, empty; and no network."""
    sums = []
    for name, content in fake_mnist.items():
        zipped = gzip.compress(content, 1, mtime=0)
        sums.append((f"{name}.gz", hashlib.md5(zipped).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", sums)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("gzipped", [False, True])
def test_mnist_is_read_gzipped_or_not(fake_mnist, raw, gzipped):
    for name, content in fake_mnist.items():
        if gzipped:
            zipped = gzip.compress(content, 1, mtime=0)
            (raw / f"{name}.gz").write_bytes(zipped)
        else:
            (raw / name).write_bytes(content)
    train_set, test_set = kd_mnist.load_mnist(raw.parents[1])
    for (images, labels), n in zip((train_set, test_set), SIZES.values()):
        assert images.shape == (n, 1, 28, 28) and images.dtype == torch.float32
        assert images[0].min() == images.max() == 1 and images[1:].max() == 0
        assert torch.equal(labels, torch.arange(n) % 10)


@pytest.mark.parametrize("damage", ["cut", "web page", "label 10"])
def test_a_damaged_file_is_one_line(fake_mnist, raw, damage):
    for name, content in fake_mnist.items():
        (raw / name).write_bytes(content)
    labels = fake_mnist["t10k-labels-idx1-ubyte"]
    damaged = {
        "cut": labels[:-1],
        "web page": b"<html>",
        "label 10": labels[:-1] + b"\n",
    }
    (raw / "t10k-labels-idx1-ubyte").write_bytes(damaged[damage])
    with pytest.raises(OSError, match="no MNIST in .*; empty that folder") as error:
        kd_mnist.load_mnist(raw.parents[1])
    assert str(raw) in str(error.value) and "\n" not in str(error.value)


def test_without_network_auto_warns_and_mnist_asks_for_its_files(raw, capsys):
    folder = raw.parents[1]
    name, (images, _), (_, test_labels) = kd_mnist.load_data("auto", folder)
    assert (name, len(images), len(test_labels)) == ("digits", 1200, 597)
    assert images.shape[1:] == (1, 28, 28) and images[:, :, :4].max() == 0
    assert "WARNING: small digits are used, NOT MNIST" in capsys.readouterr().err
    with pytest.raises(OSError, match="t10k-images-idx3-ubyte.*") as error:
        kd_mnist.load_data("mnist", folder)
    assert str(raw) in str(error.value) and "\n" not in str(error.value)
