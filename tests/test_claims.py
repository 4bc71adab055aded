"""Every experiment in tests/claims/ runs, here on tiny data and for two epochs."""

import runpy
import sys
from pathlib import Path

import pytest
import sklearn.datasets
import sklearn.utils
import torchvision

import kd_mnist

CLAIMS = sorted(Path(__file__).parent.joinpath("claims").glob("*.py"))
LEFT_OUT = ("common.py", "libraries.py")  # the second needs packages of its own
CLAIMS = [path for path in CLAIMS if path.name not in LEFT_OUT]
QUICK = ("gradient", "handwriting", "one_digit", "ten_pairs")


def small_network(num_classes):
    return kd_mnist.TeacherCNN(4, (3, 32, 32), num_classes)


@pytest.fixture
def tiny_claims(small_world, monkeypatch):
    """The experiments' folder can be imported from; pictures and networks are small."""
    monkeypatch.syspath_prepend(CLAIMS[0].parent)
    monkeypatch.delitem(sys.modules, "common", raising=False)
    digits = sklearn.datasets.load_digits()
    few = sklearn.utils.Bunch(images=digits.images[:220], target=digits.target[:220])
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: few)
    for name in ("vgg16_bn", "resnet18"):
        monkeypatch.setattr(torchvision.models, name, small_network)


def cases():
    """Each file; those that take long, under --slow."""
    for path in CLAIMS:
        marks = [] if path.stem in QUICK else [pytest.mark.slow]
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", list(cases()))
def test_claim(tiny_claims, monkeypatch, capsys, path):
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
