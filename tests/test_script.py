"""The script as a person runs it: whole runs on tiny data, bad input, trouble, and its limits."""

import ast
import json
import math
import re
import runpy
from pathlib import Path

import matplotlib.image
import pytest
import torch
from conftest import FIGURES, FILES, ROOT, TINY

import kd_mnist


def strict_json(path):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_whole_run_from_an_empty_folder_without_network(alone_in):
    done = alone_in(*TINY[2:])  # --dataset is auto
    assert done.returncode == 0, done.stderr
    expected = {"kd_mnist.py", *(f"digits_{file}" for file in FILES)}
    assert {path.name for path in alone_in.folder.iterdir()} - {"data"} == expected
    assert "WARNING: this is NOT MNIST" in done.stderr and "download failed" in done.stderr
    assert "WARNING: this is NOT MNIST" in "\n".join(done.stdout.splitlines()[-3:])
    printed = [line for line in done.stdout.splitlines() if "Downloading" not in line]
    assert max(map(len, printed)) <= 80
    for count in ("20,490", "101,770", "1,031,744", "101,632"):
        assert count in done.stdout
    assert len(re.findall(r"epoch +1/1 +loss .*%.* 0 s left", done.stdout)) == 3

    results = strict_json(alone_in.folder / "digits_results.json")
    assert results["dataset"] == "digits" and results["settings"]["student_epochs"] == 1
    assert set(results["settings"]) == set(vars(kd_mnist.build_parser().parse_args([])))
    assert set(results["environment"]) == {"python", "torch", "torchvision", "threads"}
    alone, distilled = results["student_alone"], results["student_distilled"]
    for measured in (results["teacher"], alone, distilled):
        assert measured["accuracy"] == pytest.approx(1 - measured["errors"] / 20)
        assert set(measured["history"][0]) == {"epoch", "loss", "test_accuracy", "seconds"}
        assert measured["history"][-1]["test_accuracy"] == pytest.approx(measured["accuracy"])
        assert {*"0123456789", "macro avg", "weighted avg", "accuracy"} == set(measured["report"])
    assert results["gain"]["errors"] == alone["errors"] - distilled["errors"]
    points = 100 * (distilled["accuracy"] - alone["accuracy"])
    assert results["gain"]["points"] == pytest.approx(points)

    for file in FIGURES:
        picture = matplotlib.image.imread(alone_in.folder / f"digits_{file}")
        assert min(picture.shape[:2]) >= 600 and picture[..., :3].std() > 0.05
    images, labels = kd_mnist.hold_out(kd_mnist.load_small_digits()[1], 20)[1]
    for network, name in ((kd_mnist.StudentMLP(), "student"), (kd_mnist.TeacherCNN(), "teacher")):
        network.load_state_dict(torch.load(alone_in.folder / f"digits_{name}.pt"))
        expected = distilled if name == "student" else results["teacher"]
        accuracy = kd_mnist.accuracy(kd_mnist.predict(network, images), labels)
        assert accuracy == pytest.approx(expected["accuracy"])


def test_importing_does_nothing_and_a_bad_setting_is_one_line(alone_in):
    code = "import sys, kd_mnist; sys.exit(kd_mnist.main(['--alpha', '2']))"
    done = alone_in(python=("-c", code))
    error = "kd_mnist.py: error: argument --alpha: 2 is not from 0 to 1\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", error)
    assert list(alone_in.folder.iterdir()) == [alone_in.script]


@pytest.fixture
def run_main(tmp_path, monkeypatch):
    """A tiny run in this process, without figures: its exit code and its results."""
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)

    def run_main(*arguments, name="digits"):
        code = kd_mnist.main([*TINY, "--device", "cpu", "--out-dir", str(tmp_path), *arguments])
        return code, strict_json(tmp_path / f"{name}_results.json")

    return run_main


def test_several_runs_are_paired_and_the_first_is_the_single_run(run_main, capsys):
    _, single = run_main("--seed", "7")
    assert "This student, distilled: " in capsys.readouterr().out
    code, several = run_main("--seed", "7", "--runs", "3")
    printed = capsys.readouterr().out
    for kind in ("alone", "distilled"):
        one, all_three = single[f"student_{kind}"], several[f"student_{kind}"]
        assert len(all_three["runs"]) == 3 and f"Student {kind}, seed 9" in printed
        assert len({run["history"][0]["loss"] for run in all_three["runs"]}) == 3
        assert all_three["nll"] == pytest.approx(sum(r["nll"] for r in all_three["runs"]) / 3)
        assert all_three["runs"][0]["nll"] == one["nll"]
    low, high = several["gain"]["interval"]
    assert code == 0 and low <= several["gain"]["points"] <= high
    assert "Distillation, mean of 3 pairs: " in printed


def test_alpha_0_through_the_command_line_is_the_control(run_main):
    _, results = run_main("--alpha", "0", "--student-jitter", "1")
    assert results["student_alone"]["nll"] == results["student_distilled"]["nll"]
    assert results["gain"]["points"] == 0 and results["gain"]["p_value"] == 1


def test_the_experiment_gives_each_student_what_it_should_have(run_main, monkeypatch, tmp_path):
    """One without and one with the saved teacher's logits of its images; the rest is the same."""
    calls, train_students = [], kd_mnist.train_students

    def watching(train_set, test_set, teacher_logits, **settings):
        calls.append((train_set[0], teacher_logits, dict(settings)))
        return train_students(train_set, test_set, teacher_logits, **settings)

    monkeypatch.setattr(kd_mnist, "train_students", watching)
    run_main("--temperature", "3", "--alpha", "0.7", "--lr", "0.002", "--student-jitter", "1")
    (images, no_logits, alone), (same_images, teacher_logits, distilled) = calls
    teacher = kd_mnist.TeacherCNN()
    teacher.load_state_dict(torch.load(tmp_path / "digits_teacher.pt"))
    assert no_logits is None and same_images is images
    assert torch.equal(teacher_logits, kd_mnist.soft_labels(teacher, images, 1))
    loss = distilled.pop("distillation_loss")
    assert (loss.temperature, loss.alpha) == (3, 0.7)
    assert alone == distilled and alone["lr"] == 0.002 and alone["jitter"] == 1


def test_without_control(run_main, capsys):
    _, results = run_main("--no-control")
    assert results["student_alone"] is None and results["gain"] is None
    assert "alone" not in capsys.readouterr().out


def test_other_settings_reach_the_networks(run_main):
    arguments = ["--teacher-channels", "2", "3", "--student-hidden", "20", "10", "--jitter", "1"]
    code, results = run_main(*arguments, "--one-cycle", "--bf16", "none", "--teacher-lr", "0.01")
    assert code == 0 and results["settings"]["teacher_lr"] == 0.01
    assert results["teacher"]["parameters"] == (9 + 1) * 2 + (18 + 1) * 3 + (147 + 1) * 10
    assert results["student_alone"]["parameters"] == 785 * 20 + 21 * 10 + 11 * 10


def test_a_dry_run_overwrites_no_real_run(run_main, tmp_path):
    code, results = run_main("--dry-run", "--runs", "5", name="dry_run_digits")
    assert code == 0 and len(results["student_alone"]["runs"]) == 1
    assert all(path.name.startswith("dry_run_digits_") for path in tmp_path.iterdir())


def test_holdout_leaves_the_test_set_alone(run_main, monkeypatch, capsys):
    train_set, test_set = kd_mnist.load_small_digits()
    broken = torch.full_like(test_set[0], math.nan), test_set[1]
    monkeypatch.setattr(kd_mnist, "load_small_digits", lambda: (train_set, broken))
    assert run_main("--holdout", "200")[0] == 0
    assert "120 training images, 20 " in capsys.readouterr().out


BAD = (
    ("--temperature --lr --teacher-lr", "0 -1 nan inf warm 1001"),
    ("--alpha", "-0.1 1.01 nan half"),
    ("--teacher-epochs --student-epochs --runs --batch-size --student-hidden", "0 -1 1.5 inf"),
    ("--subset --holdout", "0 -1 99 1201 60001 " + "9" * 400),
    ("--jitter --student-jitter --seed", "-1 1.5"),
    ("--jitter --bf16 --device --dataset --epochs --temp --teacher-channels", "5"),
    ("--out-dir", "kd_mnist.py kd_mnist.py/below " + "x" * 5000),
)
BAD = [(flag, v) for flags, values in BAD for flag in flags.split() for v in values.split()]


@pytest.mark.parametrize("flag, value", BAD)
def test_bad_settings_are_refused_in_one_line(tmp_path, monkeypatch, capsys, flag, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd_mnist.py").touch()
    monkeypatch.setattr(kd_mnist, "run_experiment", None)  # nothing may be trained
    with pytest.raises(SystemExit) as stop:
        kd_mnist.main(["--dataset", "digits", flag, value])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1 and error.startswith("kd_mnist.py: error: ") and flag in error


def test_a_loss_that_is_nan_ends_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kd_mnist.DistillationLoss, "forward", lambda _, s, t, y: s.sum() * math.nan)
    code = kd_mnist.main([*TINY, "--out-dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1 and "NaN or infinite" in error
    assert [path.name for path in tmp_path.iterdir()] == ["digits_teacher.pt"]


@pytest.mark.parametrize(
    "step, saved",
    [("measure", ["teacher.pt"]), ("compare", FILES[4:]), ("draw_confusion", FILES[3:])],
)
def test_training_is_saved_before_anything_is_measured_or_drawn(tmp_path, monkeypatch, step, saved):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kd_mnist, step, interrupt)
    assert kd_mnist.main([*TINY, "--out-dir", str(tmp_path)]) == 130
    assert {path.name for path in tmp_path.iterdir()} == {f"digits_{file}" for file in saved}


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def no_room(path, _):
        path.touch()
        raise OSError("disk full")

    path = tmp_path / "results.json"
    kd_mnist.write_whole(path, lambda file: file.write(b"old"))
    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(OSError):
        kd_mnist.write_whole(path, lambda file: file.write(b"new"))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


SOURCE = (ROOT / "kd_mnist.py").read_text()
DEFINITIONS = {
    node.name: node
    for node in ast.parse(SOURCE).body
    if isinstance(node, (ast.FunctionDef, ast.ClassDef))
}


@pytest.mark.parametrize("name", ["TeacherCNN", "StudentMLP", "DistillationLoss"])
def test_a_class_survives_being_pasted_alone(tmp_path, name):
    imports = "import math, torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
    pasted = imports + ast.get_source_segment(SOURCE, DEFINITIONS[name])
    (tmp_path / "pasted.py").write_text(pasted)
    new = runpy.run_path(str(tmp_path / "pasted.py"))[name]()
    if name == "DistillationLoss":
        assert new(torch.zeros(2, 10), torch.ones(2, 10), torch.tensor([0, 1])) > 0
    else:
        assert new(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_the_file_stays_small():
    lines = SOURCE.splitlines()
    assert len(lines) <= 700 and max(map(len, lines)) <= 100
    assert "fmt: " + "skip" not in SOURCE and "no" + "qa" not in SOURCE
    assert len(DEFINITIONS) <= 38 and DEFINITIONS["train"].end_lineno < 230
    for name, node in DEFINITIONS.items():
        assert ast.get_docstring(node), name
    functions = [n for n in ast.walk(ast.parse(SOURCE)) if isinstance(n, ast.FunctionDef)]
    assert max(node.end_lineno - node.lineno + 1 for node in functions) <= 60


def test_the_scripts_metadata_agrees_with_the_requirements():
    block = SOURCE.split("# /// script\n")[1].split("# ///")[0]
    declared = ast.literal_eval(block.replace("#", "").split("dependencies =")[1].strip())
    assert declared == (ROOT / "requirements.txt").read_text().split()
