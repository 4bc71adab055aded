"""Every block of the README runs: Python as it stands, commands on tiny data. And its pictures."""

import json
import re
import runpy
import shlex

import matplotlib.image
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

import kd_mnist

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
BASH = "".join(text for language, text in BLOCKS if language == "bash")
COMMANDS = [line for line in BASH.replace("\\\n", " ").splitlines() if line[:1] not in ("", "#")]
SCRIPT = "python kd_mnist.py"


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """A folder with the files that README blocks refer to; little data and at most two epochs."""
    monkeypatch.chdir(tmp_path)
    torch.save(kd_mnist.StudentMLP().state_dict(), "digits_student.pt")
    torch.save(kd_mnist.TeacherCNN().state_dict(), "digits_teacher.pt")
    settings = {"student_hidden": None, "teacher_channels": None}
    (tmp_path / "digits_results.json").write_text(json.dumps({"settings": settings}))
    drawing = np.zeros((60, 60, 3), np.uint8)
    drawing[10:50, 25:32] = 255
    for name in ("photo.png", "another.jpg"):
        matplotlib.image.imsave(name, drawing)

    whole_train, sets = kd_mnist.train, zip(kd_mnist.load_small_digits(), (320, 100))
    sets = [kd_mnist.hold_out(part, n)[1] for part, n in sets]
    sets = [((255 * images).to(torch.uint8), labels) for images, labels in sets]  # as MNIST's

    def short_train(*arguments, epochs, **options):
        return whole_train(*arguments, epochs=min(epochs, 2), **options)

    short_train.__kwdefaults__ = whole_train.__kwdefaults__

    def small_hold_out(dataset, n, seed=0, split=kd_mnist.hold_out):
        return split(dataset, n if n < len(dataset[1]) else 100, seed)

    monkeypatch.setattr(kd_mnist, "hold_out", small_hold_out)
    monkeypatch.setattr(kd_mnist, "train", short_train)
    monkeypatch.setattr(kd_mnist, "load_data", lambda *_, **__: ("digits", *sets))


def test_every_block_is_of_a_kind_that_is_tested_or_output():
    assert {language for language, _ in BLOCKS} <= {"python", "bash", "text"}
    assert PYTHON and COMMANDS


def whole(code):
    """A recipe behind the blocks that it builds on: "# Block: its name, after another's name"."""
    after = re.match(r"# Block: .*, after (.*)\n", code)
    if not after:
        return code
    (base,) = [text for text in PYTHON if re.match(f"# Block: {after[1]}[,\n]", text)]
    return whole(base) + code


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_block(somewhere, tmp_path, code):
    (tmp_path / "block.py").write_text(whole(code))
    runpy.run_path("block.py")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(SCRIPT)])
def test_script_command(somewhere, monkeypatch, command):
    arguments = shlex.split(command, comments=True)[2:]
    monkeypatch.setattr(kd_mnist, "load_data", lambda *_: ("digits", *kd_mnist.load_small_digits()))
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)  # which takes long
    arguments += ["--dataset", "digits", "--dry-run", "--device", "cpu"]
    assert kd_mnist.main(arguments) == 0


def test_no_other_commands_than_the_known_ones():
    """Set-up commands are run by continuous integration and by hand, not in here."""
    known = (SCRIPT, "python3 -m venv .venv", "python tests/benchmark.py")
    for command in COMMANDS:
        assert command.startswith(known), command


def test_pictures():
    folder = ROOT / ".github" / "pictures"
    shown = re.findall(r"!\[(.*?)\]\(\.github/pictures/(.*?)\)", README, re.DOTALL)
    assert {name for _, name in shown} == {path.name for path in folder.glob("*")}
    for alternative, name in shown:
        with Image.open(folder / name) as picture:
            assert picture.format == "PNG" and picture.width >= 600
        assert len(alternative) > 10 and (folder / name).stat().st_size <= 200_000


def test_links_within_the_page():
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    targets = {title.lower().replace(" ", "-") for title in headings}
    targets |= set(re.findall(r'id="(.*?)"', README))
    assert set(re.findall(r"\]\(#(.*?)\)", README)) <= targets
