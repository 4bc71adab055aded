"""Every block of the README runs: Python as it stands, commands on tiny data. And its pictures."""

import re
import runpy
import shlex

import matplotlib.image
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from reproduce import named_blocks, whole

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
    (tmp_path / "results").mkdir()
    for folder in (".", "results"):
        torch.save(kd_mnist.StudentMLP().state_dict(), f"{folder}/mnist_student_distilled.pt")
        torch.save(kd_mnist.TeacherCNN().state_dict(), f"{folder}/mnist_teacher.pt")
    drawing = np.zeros((60, 60, 3), np.uint8)
    drawing[10:50, 25:32] = 255
    for name in ("photo.png", "another.jpg"):
        matplotlib.image.imsave(name, drawing)

    whole_train, sets = kd_mnist.train, zip(kd_mnist.load_small_digits(), (320, 100))
    sets = [kd_mnist.hold_out(part, n)[1] for part, n in sets]
    sets = [((255 * images).to(torch.uint8), labels) for images, labels in sets]  # as MNIST's

    def short_train(*arguments, epochs, **options):
        return whole_train(*arguments, epochs=min(epochs, 2), **options)

    def small_hold_out(dataset, n, seed=0, split=kd_mnist.hold_out):
        return split(dataset, n if n < len(dataset[1]) else 100, seed)

    monkeypatch.setattr(kd_mnist, "hold_out", small_hold_out)
    monkeypatch.setattr(kd_mnist, "train", short_train)
    monkeypatch.setattr(kd_mnist, "load_data", lambda *_, **__: ("digits", *sets))


def test_every_block_is_tested_or_output_and_set_up_is_known():
    assert {language for language, _ in BLOCKS} <= {"python", "bash", "text"} and PYTHON
    known = (SCRIPT, "python3 -m venv .venv", "python tests/benchmark.py")
    assert all(command.startswith(known) for command in COMMANDS)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_block(somewhere, tmp_path, code):
    named = re.match(r"# Block: ([^,\n]+)", code)
    code = whole(named[1], named_blocks(README)) if named else code
    (tmp_path / "block.py").write_text(code)
    runpy.run_path("block.py")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(SCRIPT)])
def test_script_command(somewhere, monkeypatch, command):
    arguments = shlex.split(command, comments=True)[2:]
    monkeypatch.setattr(kd_mnist, "load_data", lambda *_: ("digits", *kd_mnist.load_small_digits()))
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)  # which takes long
    arguments += ["--dataset", "digits", "--dry-run", "--device", "cpu"]
    assert kd_mnist.main(arguments) == 0


def test_handwriting_is_prepared_as_mnist_was(somewhere, tmp_path):
    """Place, size, brightness and the camera's rotation do not matter; the rest is read."""
    seven = np.zeros((28, 28), np.uint8)
    seven[4:7, 4:20] = 255
    for row in range(7, 24):
        seven[row, 24 - row : 28 - row] = 255
    canvas = np.full((200, 260), 240, np.uint8)
    canvas[20:132, 90:202] -= seven.repeat(4, 0).repeat(4, 1) // 255 * 200
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise to see me upright"
    Image.fromarray(seven.repeat(3, 0).repeat(3, 1)).save("photo.png")
    Image.fromarray(canvas).save("larger.png")
    Image.fromarray(np.rot90(canvas)).save("turned.jpg", quality=95, exif=exif)
    Image.new("L", (50, 50), 200).save("another.jpg")  # blank, which is said, and no traceback
    (tmp_path / "block.py").write_text(named_blocks(README)["handwriting"])
    read_digit = runpy.run_path("block.py")["read_digit"]
    expected = read_digit("photo.png")
    assert expected.shape == (1, 1, 28, 28) and expected.sum() > 20
    for file in ("larger.png", "turned.jpg"):
        difference = (read_digit(file) - expected).abs().mean()
        assert difference < 0.6 * (expected.roll(1, 3) - expected).abs().mean()  # of one pixel


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
