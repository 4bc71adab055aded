"""Every block of the README runs: Python as it stands, commands on tiny data. And its pictures."""

import re
import runpy
import shlex

import matplotlib.image
import numpy as np
import pytest
import sklearn.datasets
import torch
from conftest import ROOT, TINY
from PIL import Image
from reproduce import named_blocks, whole
from torchvision import models

import kd_mnist

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
NAMED = named_blocks(README)
BASES = set(re.findall(r"^# Block: .*, after (.*)$", README, re.MULTILINE))
METHOD = next(code for code in PYTHON if "def distillation_loss" in code)
VISIBLE = re.sub(r"<details.*?</details>\n", "", README, flags=re.DOTALL)
BASH = "".join(text for language, text in BLOCKS if language == "bash")
COMMANDS = [line for line in BASH.replace("\\\n", " ").splitlines() if line[:1] not in ("", "#")]
SCRIPT = "python kd_mnist.py"


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """A folder with the files that README blocks refer to; little data and at most two epochs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").mkdir()
    for folder in (".", "first"):
        for kind in ("alone", "distilled"):
            torch.save(kd_mnist.StudentMLP().state_dict(), f"{folder}/mnist_student_{kind}.pt")
        torch.save(kd_mnist.TeacherCNN().state_dict(), f"{folder}/mnist_teacher.pt")
    drawing = np.zeros((60, 60, 3), np.uint8)
    drawing[10:50, 25:32] = 255
    for name in ("photo.png", "another.jpg"):
        matplotlib.image.imsave(name, drawing)

    whole_train, sets = kd_mnist.train, zip(kd_mnist.load_small_digits(), (320, 100))
    sets = [kd_mnist.hold_out(part, n)[1] for part, n in sets]

    def short_train(*arguments, epochs, **options):
        return whole_train(*arguments, epochs=min(epochs, 2), **options)

    def small_hold_out(dataset, n, seed=0, split=kd_mnist.hold_out):
        return split(dataset, n if n < len(dataset[1]) else 100, seed)

    monkeypatch.setattr(kd_mnist, "hold_out", small_hold_out)
    monkeypatch.setattr(kd_mnist, "train", short_train)
    monkeypatch.setattr(kd_mnist, "load_data", lambda *_, **__: ("digits", *sets))


def test_every_block_is_tested_or_output_and_set_up_is_known():
    assert {language for language, _ in BLOCKS} <= {"python", "bash", "text", "mermaid"} and PYTHON
    known = (SCRIPT, "python3 -m venv .venv", "python tests/benchmark.py")
    assert all(command.startswith(known) for command in COMMANDS)


@pytest.mark.parametrize("code", [c for c in PYTHON if c != METHOD and c not in NAMED.values()])
def test_python_block(somewhere, tmp_path, code):
    """As it stands."""
    (tmp_path / "block.py").write_text(code)
    runpy.run_path("block.py")


@pytest.mark.parametrize("name", sorted(NAMED.keys() - BASES - {"image folders"}))
def test_recipe(somewhere, tmp_path, name):
    """With the blocks that it builds on."""
    (tmp_path / "block.py").write_text(whole(name, NAMED))
    runpy.run_path("block.py")


@pytest.mark.slow
def test_recipe_of_image_folders(somewhere, tmp_path, monkeypatch):
    digits = sklearn.datasets.load_digits()
    digits.images = digits.images[:220]
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: digits)
    monkeypatch.setattr(models, "vgg16_bn", models.vgg11_bn)  # which takes half the time
    (tmp_path / "block.py").write_text(NAMED["image folders"])
    runpy.run_path("block.py")
    assert len(list(tmp_path.glob("pictures/*/*/*.png"))) == 220


@pytest.mark.slow
def test_the_method_on_one_screen(tmp_path, capsys):
    """It runs as it stands, the teacher reads best, and its loss is that of the script."""
    (tmp_path / "block.py").write_text(METHOD)
    method = runpy.run_path(str(tmp_path / "block.py"))
    teacher, *students = re.findall(r"[\d.]+%", capsys.readouterr().out)
    assert len(students) == 2 and teacher > max(students)
    logits = torch.randn(9, 10), 5 * torch.randn(9, 10)
    for T, alpha in ((1.0, 0.5), (4.0, 0.9), (20.0, 0.1)):
        expected = kd_mnist.DistillationLoss(T, alpha)(*logits, torch.arange(9))
        found = method["distillation_loss"](*logits, torch.arange(9), T, alpha)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_the_visible_page_is_short():
    numbers = re.findall(r"(?<![\w.#/])\d[\d.,]*", VISIBLE)
    assert len(VISIBLE.splitlines()) <= 260 and len(numbers) <= 120
    assert len(METHOD.splitlines()) <= 40


def test_recipes_are_short():
    for recipe in re.findall(r"<details.*?</details>", README, flags=re.DOTALL):
        blocks = re.findall(r"^```python\n(.*?)^```$", recipe, re.MULTILINE | re.DOTALL)
        name = re.search('id="(.*?)"', recipe)[1]
        lines = sum(len(code.splitlines()) for code in blocks)
        assert lines <= (60 if name == "image-folders" else 40), (name, lines)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(SCRIPT)])
def test_script_command(somewhere, monkeypatch, command):
    arguments = shlex.split(command, comments=True)[2:]
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)  # which takes long
    assert kd_mnist.main([*arguments, *TINY, "--device", "cpu"]) == 0


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
    (tmp_path / "block.py").write_text(NAMED["handwriting"])
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
    targets = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
    targets |= set(re.findall(r'id="(.*?)"', README))
    assert set(re.findall(r"\]\(#(.*?)\)", README)) <= targets
