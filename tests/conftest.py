"""What the tests share: the script, tiny data, and the real MNIST where MNIST_DIR names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import kd_mnist  # noqa: E402


@pytest.fixture
def tiny():
    """A stratified tenth of the small digits: ``(training set, test set)``."""
    train_set, test_set = kd_mnist.load_small_digits()
    return kd_mnist.hold_out(train_set, 150)[1], kd_mnist.hold_out(test_set, 60)[1]


@pytest.fixture
def fit(tiny):
    """Trains a fresh default student on the tiny set and returns it with its history."""

    def fit(seed=0, epochs=2, batch_size=32, **options):
        torch.manual_seed(seed)
        student = kd_mnist.StudentMLP()
        history = kd_mnist.train(
            student, *tiny, epochs=epochs, seed=seed, batch_size=batch_size, **options
        )
        return student, history

    return fit


@pytest.fixture(scope="session")
def mnist_dir():
    """The --data-dir of the real MNIST; the test is skipped without it."""
    if "MNIST_DIR" not in os.environ:
        pytest.skip("needs the real MNIST: set MNIST_DIR to the folder that holds MNIST/raw")
    return Path(os.environ["MNIST_DIR"])


@pytest.fixture
def alone_in(tmp_path):
    """Runs a copy of the script in a folder that holds nothing else, with all networks cut off."""
    (tmp_path / "kd_mnist.py").write_bytes((ROOT / "kd_mnist.py").read_bytes())
    unreachable = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}

    def execute(*arguments, cwd=tmp_path, **options):
        return subprocess.run(
            [sys.executable, tmp_path / "kd_mnist.py", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **unreachable, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            **options,
        )

    execute.folder = tmp_path
    return execute
