"""The script as a person runs it: a whole run on tiny data, bad options, pasting."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys

import matplotlib.image
import pytest
import torch
from conftest import FIGURES, FILES, ONE_THREAD, ROOT, TINY, WEIGHTS

import kd_mnist


def strict_json(path):
    """The content of a JSON file that holds no NaN and no infinity."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_a_whole_run_from_an_empty_folder_without_network(alone_in):
    done = alone_in(*TINY[2:], PYTHONIOENCODING="ascii")  # --dataset is auto
    assert done.returncode == 0, done.stderr
    expected = {"kd_mnist.py", *(f"digits_{file}" for file in FILES)}
    assert {path.name for path in alone_in.folder.iterdir()} - {"data"} == expected
    assert "small digits are used, NOT MNIST" in done.stderr
    assert max(map(len, done.stdout.split("\nteacher")[1].splitlines())) <= 80
    story = (
        "1,200 images to train on, 597 to test on",
        "on cpu, threads: 1\n",
        "the students never do",
        "epoch  1/1   cross-entropy",
        "The teacher's soft labels",
        "student alone, seed 0",
        "epoch  1/1   cross-entropy",
        "student distilled, seed 0",
        "epoch  1/1   distillation loss",
        "20,490",
        "101,770",
        "Errors saved by distillation",
        "One pair of students may be luck",
        "The first 5 test images",
        "Files: ./digits_*",
    )
    place = 0
    for part in story:  # in this order
        place = done.stdout.index(part, place) + 1
    report = strict_json(alone_in.folder / "digits_results.json")
    assert report["settings"]["student_epochs"] == 1
    assert report["command"] == "python kd_mnist.py " + " ".join(TINY[2:])
    assert report["data"] == "small digits, not MNIST" and report["seconds"] > 0
    assert report["torch"] in torch.__version__ and report["threads"] == 1
    records = report["records"]
    for record, file in zip(records, WEIGHTS):
        right = sum(record["confusion_matrix"][k][k] for k in range(10))
        assert record["errors"] == 597 - right
        assert record["history"][-1]["test_accuracy"] == pytest.approx(right / 597)
        assert file.startswith(record["network"].replace(" ", "_"))
    assert report["errors_saved"] == [records[1]["errors"] - records[2]["errors"]]
    for file in FIGURES:
        picture = matplotlib.image.imread(alone_in.folder / f"digits_{file}")
        assert min(picture.shape[:2]) >= 600 and picture[..., :3].std() > 0.03


@pytest.fixture
def run_main(tiny, tmp_path, monkeypatch):
    """A tiny run in this process, without figures: what it returned and wrote."""
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)
    monkeypatch.setattr(kd_mnist, "load_small_digits", lambda: tiny)

    def run_main(*arguments):
        out = ("--device", "cpu", "--out-dir", str(tmp_path / "new" / "folder"))
        result = kd_mnist.main([*TINY, *out, *arguments])
        return result, strict_json(tmp_path / "new" / "folder" / "digits_results.json")

    return run_main


def test_main_returns_what_it_wrote(run_main, tmp_path, capsys):
    (networks, records), report = run_main("--runs", "2", "--seed", "7")
    assert report["records"] == records and len(records) == len(networks) == 5
    text = capsys.readouterr().out
    assert "student distilled, seed 8" in text and "2 pairs with this teacher" in text
    for file, network in zip(WEIGHTS, networks):
        path = tmp_path / "new" / "folder" / f"digits_{file}"
        saved = torch.load(path, weights_only=True)
        for key, value in network.state_dict().items():
            assert torch.equal(saved[key], value)


def test_the_settings_reach_the_networks(run_main):
    (networks, records), _ = run_main("--student-hidden", "7", "--alpha", "0")
    assert networks[1][1].out_features == 7
    assert records[1]["confusion_matrix"] == records[2]["confusion_matrix"]


def test_holdout_never_tests_on_a_copy_of_a_training_image(run_main, monkeypatch):
    sets = []

    def watching(teacher, train_set, test_set, **_):
        sets.extend([train_set[0], test_set[0]])
        raise FloatingPointError

    monkeypatch.setattr(kd_mnist, "train", watching)
    with pytest.raises(FloatingPointError):
        run_main("--holdout", "50")
    assert [len(images) for images in sets] == [2000, 50]
    assert not any((sets[0] == image).flatten(1).all(1).any() for image in sets[1])


def test_weights_and_results_are_written_before_a_figure_fails(
    run_main, monkeypatch, tmp_path
):
    def no_latex(*_):
        raise RuntimeError("latex could not be found")

    monkeypatch.setattr(kd_mnist.Figure, "savefig", no_latex)
    with pytest.raises(RuntimeError, match="latex"):
        run_main()
    written = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert written == {f"digits_{file}" for file in (*WEIGHTS, "results.json")}


BAD = {
    "--temperature": ("0", "nan", "warm"),
    "--alpha": ("-0.1", "1.01"),
    "--student-epochs": ("0", "1.5"),
    "--batch-size": ("0",),
    "--runs": ("0",),
    "--lr": ("0", "nan"),
    "--dataset": ("cifar10",),
    "--epochs": ("5",),
}
BAD = [(flag, value) for flag, values in BAD.items() for value in values]


@pytest.mark.parametrize("flag, value", BAD)
def test_a_bad_option_is_one_line_and_exit_code_2(capsys, monkeypatch, flag, value):
    monkeypatch.setattr(kd_mnist, "load_data", None)  # nothing may be loaded
    with pytest.raises(SystemExit) as stop:
        kd_mnist.main([flag, value])
    last = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and "error: " in last
    assert flag.strip("-").replace("-", "_") in last.replace("-", "_")


def test_help_shows_every_default(capsys):
    with pytest.raises(SystemExit):
        kd_mnist.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("(default: ") == 14 and "(default: 0.007)" in text


def test_on_the_command_line_an_error_of_the_data_is_one_line(
    tmp_path, monkeypatch, offline
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kd_mnist.py", "--dataset", "mnist"])
    message = "^kd_mnist.py: error: no MNIST in data/MNIST/raw .*$"
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(ROOT / "kd_mnist.py"), run_name="__main__")


SOURCE = (ROOT / "kd_mnist.py").read_text(encoding="utf-8")
BODY = ast.parse(SOURCE).body
DEFINITIONS = {
    node.name: node
    for node in BODY
    if isinstance(node, (ast.FunctionDef, ast.ClassDef))
}


@pytest.mark.parametrize("name", ["TeacherCNN", "StudentMLP", "DistillationLoss"])
def test_a_class_survives_being_pasted_alone(tmp_path, name):
    imports = (
        "import math, torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
    )
    pasted = imports + ast.get_source_segment(SOURCE, DEFINITIONS[name])
    (tmp_path / "pasted.py").write_text(pasted, encoding="utf-8")
    new = runpy.run_path(str(tmp_path / "pasted.py"))[name]()
    if name == "DistillationLoss":
        assert new(torch.zeros(2, 10), torch.ones(2, 10), torch.tensor([0, 1])) >= 0
    else:
        assert new(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_the_method_pasted_up_to_train_pairs_trains(tmp_path, tiny):
    lines = SOURCE.splitlines()[: DEFINITIONS["train_pairs"].end_lineno]
    (tmp_path / "method.py").write_text("\n".join(lines), encoding="utf-8")
    method = runpy.run_path(str(tmp_path / "method.py"))
    teacher = method["TeacherCNN"]()
    method["train"](teacher, *tiny, epochs=2, transform=method["random_shift"])
    _, records = method["train_pairs"](teacher, *tiny, epochs=2)
    for record in records[1:]:
        assert record["history"][1]["loss"] < record["history"][0]["loss"]


def test_every_definition_has_a_docstring_and_importing_does_nothing():
    assert all(ast.get_docstring(node) for node in DEFINITIONS.values())
    plain = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.ClassDef,
        ast.Expr,
        ast.If,
    )
    assert all(isinstance(node, plain) for node in BODY)
    assert isinstance(BODY[-1], ast.If) and "__main__" in ast.unparse(BODY[-1].test)


EXERCISE = """
from kd_mnist import DistillationLoss
def my_loss(student_logits, teacher_logits, labels):
    return DistillationLoss({temperature}, 0.5)(student_logits, {teacher}, labels)
"""
ATTEMPTS = [  # what my_loss computes, and the tests that must fail
    (("1000", "teacher_logits"), set()),
    (("4", "teacher_logits"), {"value", "gradient"}),
    (("1000", "teacher_logits[:1].expand_as(teacher_logits)"), {"value", "gradient"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("attempt, expected", ATTEMPTS)
def test_the_exercise_is_tested(tmp_path, attempt, expected):
    temperature, teacher = attempt
    text = EXERCISE.format(temperature=temperature, teacher=teacher)
    (tmp_path / "my_loss.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--rootdir", str(ROOT), "-rf"]
    command.append(str(ROOT / "tests" / "test_exercise.py"))
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        cwd=tmp_path,
        encoding="utf-8",
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)},
    )
    failed = set(
        re.findall(r"^FAILED .*::test_its_(\w+?)_is", done.stdout, re.MULTILINE)
    )
    assert expected <= failed and (done.returncode == 0) == (not expected), done.stdout


@pytest.mark.slow
def test_distillation_helps_offline(tmp_path):
    arguments = ["--dataset", "digits", "--out-dir", str(tmp_path), "--runs", "3"]
    kd_mnist.main(arguments)
    assert sum(strict_json(tmp_path / "digits_results.json")["errors_saved"]) > 0
