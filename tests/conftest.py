"""What the tests share: the option --slow, tiny data, and the script alone in a folder."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
from sklearn.model_selection import train_test_split

import kd_mnist

ROOT = Path(__file__).parents[1]
OFFLINE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
FIGURES = ("soft_labels.png", "training_curves.png", "confusion_matrix.png")
WEIGHTS = ("teacher.pt", "student_alone.pt", "student_distilled.pt")
FILES = (*FIGURES, *WEIGHTS, "results.json")
TINY = ("--dataset", "digits", "--teacher-epochs", "1", "--student-epochs", "1")
torch.set_num_threads(1)  # on tiny data, threads only wait for each other


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the long tests too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; skipped without --slow")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(
                pytest.mark.skip(reason="takes long: python -m pytest --slow")
            )


def few(data, n):
    """``n`` images of a data set, of each class in proportion."""
    images, labels = data
    _, images, _, labels = train_test_split(
        images, labels, test_size=n, stratify=labels, random_state=0
    )
    return images, labels


@pytest.fixture
def tiny():
    """A tenth of the small digits: ``(training set, test set)``."""
    train_set, test_set = kd_mnist.load_small_digits()
    return few(train_set, 150), few(test_set, 60)


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """An empty folder with saved networks; little data, and always two epochs."""
    monkeypatch.chdir(tmp_path)
    for name in ("teacher", "student_alone", "student_distilled"):
        kind = kd_mnist.TeacherCNN if name == "teacher" else kd_mnist.StudentMLP
        torch.save(kind().state_dict(), f"mnist_{name}.pt")
    train_set, test_set = kd_mnist.load_small_digits()
    sets = few(train_set, 320), few(test_set, 100)
    whole_train = kd_mnist.train

    def short_train(*arguments, epochs, **options):
        options["verbose"] = False
        return whole_train(*arguments, epochs=2, **options)

    monkeypatch.setattr(kd_mnist, "train", short_train)
    monkeypatch.setattr(kd_mnist, "load_data", lambda *_: ("digits", *sets))
    return sets


@pytest.fixture
def offline(monkeypatch):
    """This process has no network."""
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it may know another proxy


@pytest.fixture
def alone_in(tmp_path):
    """Runs a copy of the script in a folder that holds nothing else, without network."""
    script = tmp_path / "kd_mnist.py"
    script.write_bytes((ROOT / "kd_mnist.py").read_bytes())

    def execute(*arguments, **environment):
        command = [sys.executable, "kd_mnist.py", *arguments]
        environment = {**os.environ, **OFFLINE, **ONE_THREAD, **environment}
        options = {"env": environment, "cwd": tmp_path, "encoding": "utf-8"}
        return subprocess.run(command, check=False, capture_output=True, **options)

    execute.folder, execute.script = tmp_path, script
    return execute
