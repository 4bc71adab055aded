"""Getting the data: MNIST's files in every state, downloads that fail, splits, small digits."""

import gzip
import hashlib
import http.server
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest
import torch
from conftest import OFFLINE

import kd_mnist


@pytest.fixture
def small_mnist(monkeypatch):
    """Four files in MNIST's format, ten images each, which the script is told are MNIST."""
    random, arrays, files = np.random.default_rng(0), {}, {}
    for name in kd_mnist.MNIST_FILES:
        shape, high = ((10, 28, 28), 256) if "images" in name else ((10,), 10)
        arrays[name] = random.integers(0, high, shape, np.uint8)
        header = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
        files[name] = header + arrays[name].tobytes()
    known = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(kd_mnist, "MNIST_FILES", known)
    return arrays, files


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offline(monkeypatch):
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it may remember another proxy


@pytest.mark.parametrize(
    "form", ["plain", "gzipped", "gzipped without .gz", "plain with .gz", "damaged .gz beside"]
)
def test_mnist_is_read_gzipped_or_not(small_mnist, raw, tmp_path, form):
    arrays, files = small_mnist
    for name, content in files.items():
        suffix = ".gz" if form in ("gzipped", "plain with .gz") else ""
        zipped = gzip.compress(content)
        (raw / f"{name}{suffix}").write_bytes(zipped if form.startswith("gz") else content)
        if form == "damaged .gz beside":
            (raw / f"{name}.gz").write_bytes(zipped[:-20])
    (images, labels), (test_images, test_labels) = kd_mnist.load_mnist(tmp_path)
    assert images.shape == test_images.shape == (10, 1, 28, 28) and images.dtype == torch.uint8
    assert labels.dtype == test_labels.dtype == torch.int64
    read = images[:, 0], labels, test_images[:, 0], test_labels
    for part, array in zip(read, arrays.values()):
        np.testing.assert_array_equal(part, array)


@pytest.mark.parametrize("damage", ["cut", "empty", "web page", "longer", "cut gzip", "one bit"])
def test_a_damaged_file_is_named_and_refused(small_mnist, raw, tmp_path, capsys, damage):
    for name, content in small_mnist[1].items():
        (raw / name).write_bytes(content)
    damaged = {"cut": content[:-1], "empty": b"", "web page": b"<html>please log in</html>"}
    damaged |= {"longer": content + b"\0", "cut gzip": gzip.compress(content)[:-9]}
    damaged["one bit"] = content[:-1] + bytes([content[-1] ^ 1])
    (raw / name).write_bytes(damaged[damage])
    assert kd_mnist.main(["--data-dir", str(tmp_path), "--out-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert name in error and error.count("\n") == 1


def test_without_network_auto_warns_and_mnist_asks_for_its_files(tmp_path, offline, capsys):
    name, (images, _), (_, test_labels) = kd_mnist.load_data("auto", tmp_path)
    assert (name, len(images), len(test_labels)) == ("digits", 1200, 597)
    assert "WARNING: this is NOT MNIST" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="gzipped or not") as error:
        kd_mnist.load_data("mnist", tmp_path)
    folder, message = str(tmp_path / "MNIST" / "raw"), str(error.value)
    assert all(part in message for part in (*kd_mnist.MNIST_FILES, folder)) and "\n" not in message


class Mirror(http.server.BaseHTTPRequestHandler):
    """A server on this machine that answers as its ``behaviour`` says."""

    def do_GET(self):
        if self.behaviour == "silent":
            time.sleep(3)
            return
        body = self.files.get(self.path.strip("/"), b"")
        body = b"<html>please log in</html>" if self.behaviour == "login page" else body
        self.send_response(int(self.behaviour) if self.behaviour.isdigit() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.behaviour == "half" else body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def mirrors(small_mnist, monkeypatch, offline):
    """``mirrors("404", "works")`` starts two such servers, the only ones that can be reached."""
    from torchvision.datasets import MNIST

    files = {f"{name}.gz": gzip.compress(content) for name, content in small_mnist[1].items()}
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(*behaviours):
        addresses = []
        for behaviour in behaviours:
            handler = type("Handler", (Mirror,), {"behaviour": behaviour, "files": files})
            servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=servers[-1].serve_forever, args=[0.01], daemon=True).start()
            addresses.append(f"http://127.0.0.1:{servers[-1].server_port}/")
        monkeypatch.setattr(MNIST, "mirrors", addresses)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["404", "503", "half", "login page", "silent"])
def test_a_mirror_in_trouble(mirrors, tmp_path, monkeypatch, capsys, trouble):
    """Ends, in time, in the warning and the small digits or in one line; the next try may work."""
    download, timeout = kd_mnist.download_mnist, socket.getdefaulttimeout()
    monkeypatch.setattr(kd_mnist, "download_mnist", lambda folder: download(folder, timeout=0.5))
    mirrors(trouble)
    started = time.monotonic()
    assert kd_mnist.load_data("auto", tmp_path)[0] == "digits"
    assert time.monotonic() - started < 10 and socket.getdefaulttimeout() == timeout
    assert "WARNING: this is NOT MNIST" in capsys.readouterr().err
    arguments = ["--dataset", "mnist", "--data-dir", str(tmp_path), "--out-dir", str(tmp_path)]
    assert kd_mnist.main(arguments) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("kd_mnist.py: error: MNIST is not")
    mirrors("404", "works")
    assert kd_mnist.load_data("auto", tmp_path)[0] == "mnist"
    mirrors(trouble)
    assert kd_mnist.load_data("mnist", tmp_path)[0] == "mnist"  # it is there now


def test_hold_out_is_stratified_and_repeatable():
    labels = torch.arange(1000) % 10
    labels[labels == 9] = 0  # class 0 twice as often, class 9 never
    numbers = torch.arange(1000)
    (rest, rest_labels), (held, held_labels) = kd_mnist.hold_out((numbers, labels), 100, seed=3)
    assert torch.equal(torch.cat([rest, held]).sort().values, numbers)  # each image once
    assert torch.equal(labels[rest], rest_labels) and torch.equal(labels[held], held_labels)
    assert torch.bincount(held_labels, minlength=10).tolist() == [20, *[10] * 8, 0]
    assert torch.equal(kd_mnist.hold_out((numbers, labels), 100, seed=3)[1][0], held)
    assert not torch.equal(kd_mnist.hold_out((numbers, labels), 100, seed=4)[1][0], held)


def test_small_digits_look_like_mnist():
    (images, labels), (test_images, test_labels) = kd_mnist.load_small_digits()
    assert images.shape == (1200, 1, 28, 28) and test_images.shape == (597, 1, 28, 28)
    assert images.min() == 0 and 0.9 < images.max() <= 1
    assert images[:, :, :4].sum() == images[..., -4:].sum() == 0  # 20x20 inside 28x28
    assert len(labels) == 1200 and torch.bincount(test_labels).min() >= 50


def test_the_real_mnist(mnist_dir):
    (images, labels), (test_images, test_labels) = kd_mnist.load_mnist(mnist_dir)
    assert images.shape == (60_000, 1, 28, 28) and test_images.shape == (10_000, 1, 28, 28)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9] and test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert kd_mnist.to_float(images).mean().item() == pytest.approx(0.1307, abs=1e-4)
