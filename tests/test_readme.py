"""Every block of the README runs: Python as it stands, commands on tiny data."""

import json
import re
import shlex

import matplotlib.image
import numpy as np
import pytest
import torch

import kd_mnist
from conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "bash"
    for line in text.replace("\\\n", " ").splitlines()
]


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """An empty folder with the files that README blocks refer to; at most two epochs."""
    monkeypatch.chdir(tmp_path)
    torch.save(kd_mnist.StudentMLP().state_dict(), "digits_student.pt")
    drawing = np.zeros((60, 60, 3), np.uint8)
    drawing[10:50, 25:32] = 255
    for name in ("photo.png", "another.jpg"):
        matplotlib.image.imsave(name, drawing)
    model = {"accuracy": 0.9, "report": {"8": {"recall": 0.8}}}
    results = dict.fromkeys(("teacher", "student_alone", "student_distilled"), model)
    results["gain"] = {"points": 0.5, "verdict": "better"}
    (tmp_path / "digits_results.json").write_text(json.dumps(results))
    for part in ("train", "test"):
        for kind in ("cats", "dogs"):
            folder = tmp_path / "my_images" / part / kind
            folder.mkdir(parents=True)
            for i in range(2):
                picture = np.random.default_rng(i).random((70, 70, 3))
                matplotlib.image.imsave(folder / f"{i}.png", picture)
    real_train, digits = kd_mnist.train, kd_mnist.load_small_digits()
    digits = [((255 * images).to(torch.uint8), labels) for images, labels in digits]  # as MNIST is

    def short_train(*arguments, epochs, **options):
        return real_train(*arguments, epochs=min(epochs, 2), **options)

    monkeypatch.setattr(kd_mnist, "train", short_train)
    monkeypatch.setattr(kd_mnist, "load_data", lambda *_, **__: ("digits", *digits))
    return tmp_path


def test_every_block_is_of_a_kind_that_is_tested_or_output():
    assert {language for language, _ in BLOCKS} <= {"python", "bash", "text", "mermaid"}
    assert len(PYTHON) >= 10 and len(COMMANDS) >= 10


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_block(somewhere, code, capsys):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


SCRIPT_COMMANDS = [c for c in COMMANDS if c.startswith("python kd_mnist.py")]


@pytest.mark.parametrize("command", SCRIPT_COMMANDS)
def test_script_command(somewhere, command, capsys):
    arguments = shlex.split(command, comments=True)[2:]
    extra = ["--dataset", "digits", "--dry-run", "--device", "cpu"]
    if "--holdout" in arguments:
        arguments[arguments.index("--holdout") + 1] = "500"
    if "--help" in arguments:
        with pytest.raises(SystemExit) as stop:
            kd_mnist.main(arguments)
        assert stop.value.code == 0
    else:
        assert kd_mnist.main([*arguments, *extra]) == 0


def test_no_other_commands_than_the_known_ones():
    """Set-up commands are run by continuous integration and by hand, not in here."""
    known = (
        "python kd_mnist.py",
        "python3 -m venv .venv && .venv/bin/",
        "python tests/benchmark.py",
        ".venv/bin/pip install torch torchvision --index-url",
    )
    for command in COMMANDS:
        assert command.startswith(known), command


def test_the_readme_names_every_option():
    for action in kd_mnist.build_parser()._actions:
        assert f"`{action.option_strings[-1]}" in README, action.option_strings
