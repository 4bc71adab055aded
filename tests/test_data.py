"""Getting the data: IDX files in every state, downloads that fail, splits, the small digits."""

import gzip
import hashlib
import http.server
import socket
import threading
import time

import numpy as np
import pytest
import torch

import kd_mnist
from kd_mnist import read_idx


def idx_bytes(array):
    header = np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_mnist(monkeypatch):
    """Four files in MNIST's format, ten images each, which the script is told are MNIST."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, (shape, _) in kd_mnist.MNIST_FILES.items():
        high = 256 if len(shape) == 3 else 10
        arrays[name] = random.integers(0, high, (10, *shape[1:]), np.uint8)
    files = {name: idx_bytes(array) for name, array in arrays.items()}
    known = {n: (arrays[n].shape, hashlib.md5(content).hexdigest()) for n, content in files.items()}
    monkeypatch.setattr(kd_mnist, "MNIST_FILES", known)
    return arrays, files


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def no_download(monkeypatch):
    def refuse(folder):
        raise FileNotFoundError("the download failed (this is a test)")

    monkeypatch.setattr(kd_mnist, "fetch_mnist", refuse)


@pytest.mark.parametrize(
    "form", ["plain", "gzipped", "gzipped without .gz", "plain with .gz", "both"]
)
def test_mnist_is_read_gzipped_or_not(small_mnist, raw, tmp_path, form):
    arrays, files = small_mnist
    for name, content in files.items():
        suffix = ".gz" if form in ("gzipped", "plain with .gz", "both") else ""
        zipped = gzip.compress(content)
        (raw / f"{name}{suffix}").write_bytes(zipped if form.startswith("gz") else content)
        if form == "both":
            (raw / f"{name}.gz").write_bytes(zipped[:-20])
            (raw / name).write_bytes(content)
    (images, labels), (test_images, test_labels) = kd_mnist.load_mnist(tmp_path / "data")
    assert images.shape == test_images.shape == (10, 1, 28, 28) and images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    read = images[:, 0], labels, test_images[:, 0], test_labels
    for part, array in zip(read, arrays.values()):
        np.testing.assert_array_equal(np.asarray(part), array)


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "web page", "longer", "other shape", "cut gzip", "other content"]
)
def test_a_damaged_file_is_named_and_refused(small_mnist, raw, tmp_path, damage):
    arrays, files = small_mnist
    for name, content in files.items():
        (raw / name).write_bytes(content)
    name = "t10k-images-idx3-ubyte"
    content = files[name]
    (raw / name).write_bytes({
        "cut": content[:-1],
        "empty": b"",
        "web page": b"<html>please log in</html>",
        "longer": content + b"\0",
        "other shape": idx_bytes(arrays[name].reshape(10, 14, 56)),
        "cut gzip": gzip.compress(content)[:-9],
        "other content": content[:-1] + bytes([content[-1] ^ 1]),
    }[damage])  # fmt: skip
    with pytest.raises(OSError, match=name) as error:
        kd_mnist.load_mnist(tmp_path / "data")
    assert not isinstance(error.value, FileNotFoundError)  # or "auto" would go on without it
    assert "\n" not in str(error.value)


def test_read_idx_without_a_checksum(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "a", (2, 3, 4)), array)


def test_missing_files_are_asked_for_by_name(raw, tmp_path, no_download):
    with pytest.raises(FileNotFoundError) as error:
        kd_mnist.load_mnist(tmp_path / "data")
    message = str(error.value)
    assert all(name in message for name in kd_mnist.MNIST_FILES)
    assert str(raw) in message and "gzipped or not" in message and "this is a test" in message


def test_auto_falls_back_with_a_warning_and_mnist_does_not(tmp_path, no_download, capsys):
    name, (images, labels), (_, test_labels) = kd_mnist.load_data("auto", tmp_path)
    assert (name, images.shape, len(test_labels)) == ("digits", (1437, 1, 28, 28), 360)
    assert "WARNING: this is NOT MNIST" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        kd_mnist.load_data("mnist", tmp_path)


class Mirror(http.server.BaseHTTPRequestHandler):
    """A server on this machine that answers as its ``behaviour`` says."""

    behaviour, files = "works", {}

    def do_GET(self):
        name = self.path.strip("/")
        body, status = gzip.compress(self.files.get(name.removesuffix(".gz"), b"")), 200
        if self.behaviour == "silent":
            time.sleep(3)
            return
        if self.behaviour.isdigit():
            status = int(self.behaviour)
        if self.behaviour == "login page":
            body = b"<html>please log in</html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.behaviour == "half" else body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(small_mnist, monkeypatch):
    """``mirror(behaviour)`` starts a server and returns its address."""
    from torchvision.datasets import MNIST

    _, files = small_mnist
    resources = [
        (f"{n}.gz", hashlib.md5(gzip.compress(c, mtime=0)).hexdigest()) for n, c in files.items()
    ]
    monkeypatch.setattr(gzip, "compress", lambda c, real=gzip.compress: real(c, mtime=0))
    monkeypatch.setattr(MNIST, "resources", resources)
    servers = []

    def start(behaviour):
        handler = type("Handler", (Mirror,), {"behaviour": behaviour, "files": files})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("trouble", ["404", "503", "half", "login page", "silent"])
def test_a_mirror_in_trouble_leaves_nothing_and_the_next_one_serves(mirror, raw, trouble):
    timeout = socket.getdefaulttimeout()
    started = time.monotonic()
    with pytest.raises(FileNotFoundError, match="download failed"):
        kd_mnist.fetch_mnist(raw, [mirror(trouble)], timeout=0.5)
    assert time.monotonic() - started < 5
    assert list(raw.iterdir()) == []
    kd_mnist.fetch_mnist(raw, [mirror(trouble), mirror("works")], timeout=0.5)
    assert sorted(path.name for path in raw.iterdir()) == sorted(kd_mnist.MNIST_FILES)
    assert socket.getdefaulttimeout() == timeout


def test_two_first_runs_at_once(mirror, small_mnist, raw, tmp_path):
    address, failures = mirror("works"), []

    def first_run():
        try:
            kd_mnist.fetch_mnist(raw, [address])
            kd_mnist.load_mnist(tmp_path / "data")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=first_run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_stratified_keeps_the_shares_and_the_order():
    labels = torch.arange(1000) % 10
    labels[labels == 9] = 0  # class 0 twice as often, class 9 never
    chosen = kd_mnist.stratified(labels, 100)
    assert torch.bincount(labels[chosen], minlength=10).tolist() == [20, *[10] * 8, 0]
    assert torch.equal(chosen, chosen.unique())
    assert not torch.equal(chosen, kd_mnist.stratified(labels, 100, seed=1))
    assert torch.equal(kd_mnist.stratified(labels, 1000), torch.arange(1000))
    for impossible in (0, 1001):
        with pytest.raises(ValueError, match="1000 images"):
            kd_mnist.stratified(labels, impossible)


def test_hold_out_splits_without_overlap(tiny):
    images, labels = tiny[0]
    (rest, rest_labels), (held, held_labels) = kd_mnist.hold_out((images, labels), 50)
    assert len(rest) == len(rest_labels) == 100 and len(held) == len(held_labels) == 50
    every = torch.cat([rest, held]).flatten(1)
    assert len(every.unique(dim=0)) == len(images.flatten(1).unique(dim=0))
    assert set(held_labels.tolist()) == set(range(10))


def test_small_digits_look_like_mnist():
    (images, labels), (test_images, test_labels) = kd_mnist.load_small_digits()
    assert images.shape == (1437, 1, 28, 28) and test_images.shape == (360, 1, 28, 28)
    assert images.min() == 0 and 0.9 < images.max() <= 1
    assert images[:, :, :4].sum() == images[..., -4:].sum() == 0  # 20x20 inside 28x28
    assert torch.bincount(test_labels).min() >= 34
    assert len(labels) == 1437


def test_the_real_mnist(mnist_dir):
    (images, labels), (test_images, test_labels) = kd_mnist.load_mnist(mnist_dir)
    assert images.shape == (60_000, 1, 28, 28) and test_images.shape == (10_000, 1, 28, 28)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9] and test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert kd_mnist.ink(images).mean().item() == pytest.approx(0.1307, abs=1e-4)
