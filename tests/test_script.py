"""The script as a person runs it: whole runs on tiny data, bad input, interruptions."""

import ast
import json
import math
import os
import subprocess
import sys

import matplotlib.image
import pytest
import torch

import kd_mnist
from conftest import ROOT

FILES = (
    "confusion_matrix.png", "training_curves.png", "soft_labels.png",
    "results.json", "teacher.pt", "student.pt",
)  # fmt: skip
TINY = ("--dataset", "digits", "--subset", "120", "--teacher-epochs", "2", "--student-epochs", "2")


def strict_json(path):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_whole_run_from_an_empty_folder(alone_in):
    done = alone_in(*TINY)
    assert done.returncode == 0 and done.stderr == ""
    expected = {"kd_mnist.py", *(f"digits_{file}" for file in FILES)}
    assert {path.name for path in alone_in.folder.iterdir()} == expected
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Wrote to ")]
    assert max(map(len, lines)) <= 80
    assert "20,490" in done.stdout and "101,770" in done.stdout
    assert "1,031,744" in done.stdout and "101,632" in done.stdout
    assert done.stdout.count("  epoch ") == 6

    results = strict_json(alone_in.folder / "digits_results.json")
    assert results["dataset"] == "digits" and results["settings"]["student_epochs"] == 2
    flags = {action.dest for action in kd_mnist.build_parser()._actions} - {"help"}
    assert set(results["settings"]) == flags
    assert set(results["environment"]) == {"python", "torch", "torchvision", "device", "threads"}
    for model in ("teacher", "student_alone", "student_distilled"):
        measured = results[model]
        assert measured["accuracy"] == pytest.approx(1 - measured["errors"] / 20)
        assert len(measured["history"]) == 2
        assert set(measured["history"][0]) == {"epoch", "loss", "test_accuracy", "seconds"}
        assert measured["history"][-1]["test_accuracy"] == pytest.approx(measured["accuracy"])
        assert measured["top3_accuracy"] >= measured["accuracy"]
        assert {*"0123456789", "macro avg", "weighted avg", "accuracy"} == set(measured["report"])
        assert {"parameters", "nll", "auc", "agreement", "ms_per_1000"} < set(measured)
    gain, alone, distilled = (results[k] for k in ("gain", "student_alone", "student_distilled"))
    assert gain["errors"] == alone["errors"] - distilled["errors"]
    assert gain["points"] == pytest.approx(100 * (distilled["accuracy"] - alone["accuracy"]))
    assert 0 <= gain["p_value"] <= 1

    for file in FILES[:3]:
        picture = matplotlib.image.imread(alone_in.folder / f"digits_{file}")
        assert picture.shape[0] > 500 and picture.shape[1] > 900 and picture[..., :3].std() > 0.05

    student, teacher = kd_mnist.StudentMLP(), kd_mnist.TeacherCNN()
    for model, name in ((student, "student"), (teacher, "teacher")):
        saved = torch.load(alone_in.folder / f"digits_{name}.pt", weights_only=True)
        model.load_state_dict(saved)
    _, train_set, test_set = kd_mnist.load_data("digits")
    images, labels = kd_mnist.hold_out(test_set, 20)[1]
    assert kd_mnist.accuracy(kd_mnist.predict(student, images), labels) == pytest.approx(
        distilled["accuracy"]
    )


def test_dry_run_without_network_ends_well_and_warns_twice(alone_in):
    done = alone_in("--dry-run")
    assert done.returncode == 0
    assert "WARNING: this is NOT MNIST" in done.stderr and "Reason: MNIST is not in" in done.stderr
    assert "WARNING: this is NOT MNIST" in "\n".join(done.stdout.splitlines()[-6:])
    assert "numbers mean nothing" in done.stdout
    assert strict_json(alone_in.folder / "dry_run_digits_results.json")["dataset"] == "digits"
    assert not list(alone_in.folder.glob("digits_*"))


def test_mnist_is_never_substituted(alone_in):
    done = alone_in("--dataset", "mnist", "--dry-run")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert all(name in done.stderr for name in kd_mnist.MNIST_FILES)
    assert not list(alone_in.folder.glob("*.png"))


def test_a_dry_run_on_the_real_mnist(alone_in, mnist_dir):
    done = alone_in("--data-dir", mnist_dir.resolve(), "--dry-run")
    assert done.returncode == 0 and done.stderr == ""
    assert {f"dry_run_mnist_{file}" for file in FILES} < {
        path.name for path in alone_in.folder.iterdir()
    }


def run_main(tmp_path, *arguments):
    code = kd_mnist.main([*TINY, "--device", "cpu", "--out-dir", str(tmp_path), *arguments])
    return code, strict_json(tmp_path / "digits_results.json")


def test_several_runs_are_paired_and_averaged(tmp_path, capsys):
    code, results = run_main(tmp_path, "--runs", "3", "--seed", "7")
    alone, distilled = results["student_alone"], results["student_distilled"]
    assert code == 0
    assert [run["seed"] for run in alone["runs"]] == [run["seed"] for run in distilled["runs"]]
    assert [run["seed"] for run in alone["runs"]] == [7, 8, 9]
    for student in (alone, distilled):
        mean = sum(run["accuracy"] for run in student["runs"]) / 3
        assert student["accuracy"] == pytest.approx(mean)
    assert len({run["history"][0]["loss"] for run in alone["runs"]}) == 3
    low, high = results["gain"]["interval"]
    assert low <= results["gain"]["points"] <= high
    assert "(mean and sd of 3 runs)" in capsys.readouterr().out


def test_the_first_of_several_runs_is_the_single_run(tmp_path):
    _, single = run_main(tmp_path)
    _, several = run_main(tmp_path, "--runs", "2")
    for student in ("student_alone", "student_distilled"):
        first = several[student]["runs"][0]
        assert (
            first["nll"] == single[student]["nll"] and first["errors"] == single[student]["errors"]
        )


def test_alpha_0_through_the_command_line_is_the_control(tmp_path):
    _, results = run_main(tmp_path, "--alpha", "0")
    assert results["student_alone"]["nll"] == results["student_distilled"]["nll"]
    assert results["gain"]["points"] == 0 and results["gain"]["p_value"] == 1


def test_without_control(tmp_path):
    _, results = run_main(tmp_path, "--no-control")
    assert results["student_alone"] is None and "gain" not in results


def test_omitted_digits_are_reported(tmp_path, capsys):
    _, results = run_main(tmp_path, "--omit-digits", "3", "5")
    assert results["student_alone"]["omitted"]["recognised"] == 0
    assert set(results["student_distilled"]["omitted"]) > {
        "recognised_corrected",
        "errors_corrected",
    }
    assert "Digits kept from the students: 3, 5" in capsys.readouterr().out


def test_holdout_leaves_the_test_set_alone(tmp_path, monkeypatch, capsys):
    train_set, test_set = kd_mnist.load_small_digits()
    broken = (torch.full_like(test_set[0], float("nan")), test_set[1])
    monkeypatch.setattr(kd_mnist, "load_small_digits", lambda seed: (train_set, broken))
    arguments = ["--dataset", "digits", "--teacher-epochs", "1", "--student-epochs", "1"]
    code = kd_mnist.main([*arguments, "--holdout", "200", "--out-dir", str(tmp_path)])
    assert code == 0
    assert "1,237 training images, 200 held-out images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--jitter", "2", "--student-jitter", "1", "--one-cycle"],
        ["--teacher", "mlp", "--teacher-hidden", "30", "20", "--student-hidden", "20", "10"],
        ["--teacher-channels", "2", "3"],
    ],
)
def test_other_settings_run(tmp_path, arguments):
    code, results = run_main(tmp_path, *arguments)
    assert code == 0 and results["student_distilled"]["errors"] <= 20


BAD = {
    "--temperature": ["0", "-1", "nan", "inf", "warm"],
    "--alpha": ["-0.1", "1.01", "nan", "half"],
    "--teacher-epochs": ["0", "-1", "1.5"],
    "--student-epochs": ["0"],
    "--batch-size": ["0", "-5", "9" * 400],
    "--lr": ["0", "-1", "nan", "inf"],
    "--subset": ["0", "-1", "99", "1438"],
    "--holdout": ["0", "99", "1400"],
    "--student-hidden": ["0", "-3", "128 0"],
    "--teacher-hidden": ["0"],
    "--teacher-channels": ["0 1", "16"],
    "--runs": ["0"],
    "--jitter": ["-1", "5"],
    "--omit-digits": ["10", "-1", "0 1 2 3 4 5 6 7 8"],
    "--seed": ["-1", "x"],
    "--device": ["gpu"] + ["cuda"] * (not torch.cuda.is_available()),
    "--dataset": ["cifar"],
    "--out-dir": ["kd_mnist.py", "kd_mnist.py/below", "x" * 5000],
    "--data-dir": ["kd_mnist.py", "x" * 5000],
    "--epochs": ["5"],
    "--temp": ["5"],
}


@pytest.mark.parametrize("flag, value", [(f, v) for f, values in BAD.items() for v in values])
def test_bad_settings_are_refused_in_one_line(tmp_path, monkeypatch, capsys, flag, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd_mnist.py").touch()
    monkeypatch.setattr(kd_mnist, "train", None)  # nothing may be trained
    with pytest.raises(SystemExit) as stop:
        kd_mnist.main(["--dataset", "digits", flag, *value.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1 and error.startswith("kd_mnist.py: error: ") and flag in error


def test_bad_settings_of_a_real_process(alone_in):
    done = alone_in("--alpha", "2")
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", "kd_mnist.py: error: argument --alpha: 2 is not a number from 0 to 1\n",
    )  # fmt: skip


def test_a_loss_that_is_no_number_ends_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kd_mnist.DistillationLoss, "forward", lambda _, s, t, y: s.sum() * math.nan)
    code = kd_mnist.main([*TINY, "--out-dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1 and "a higher temperature" in error
    assert not list(tmp_path.iterdir())


def test_a_damaged_mnist_ends_in_one_line(tmp_path, capsys):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in kd_mnist.MNIST_FILES:
        (folder / name).write_bytes(b"cut short")
    code = kd_mnist.main(["--data-dir", str(tmp_path), "--out-dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1 and "train-images-idx3-ubyte" in error


def test_a_failing_figure_does_not_lose_the_training(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kd_mnist, "draw_confusion", fail)
    assert kd_mnist.main([*TINY, "--out-dir", str(tmp_path)]) == 130
    assert {path.name for path in tmp_path.iterdir()} == {f"digits_{file}" for file in FILES[3:]}


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(file):
        file.write(b"half of the ne")
        raise OSError("disk full")

    with pytest.raises(OSError):
        kd_mnist.write_whole(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    kd_mnist.write_whole(path, lambda file: file.write(b"new"))
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_pasted_into_a_notebook_the_kernels_arguments_are_ignored(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(kd_mnist, "run", lambda args, parser: seen.append(args))
    monkeypatch.setattr(sys, "argv", ["/lib/ipykernel_launcher.py", "-f", "kernel.json"])
    monkeypatch.chdir(tmp_path)
    assert kd_mnist.main() == 0 and seen[0].temperature == 2.0


def test_importing_does_nothing(tmp_path):
    code = "import kd_mnist, sys; assert 'seaborn' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


SOURCE = (ROOT / "kd_mnist.py").read_text()


@pytest.mark.parametrize("name", ["TeacherCNN", "TeacherMLP", "StudentMLP", "DistillationLoss"])
def test_a_class_survives_being_pasted_alone(name):
    (definition,) = [n for n in ast.parse(SOURCE).body if getattr(n, "name", None) == name]
    imports = "import math, torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
    scope = {}
    exec(imports + ast.get_source_segment(SOURCE, definition), scope)
    if name == "DistillationLoss":
        assert scope[name]()(torch.zeros(2, 10), torch.ones(2, 10), torch.tensor([0, 1])) > 0
    else:
        assert scope[name]()(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_lines_are_short_and_public_names_explained():
    assert max(map(len, SOURCE.splitlines())) <= 100
    for node in ast.parse(SOURCE).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert ast.get_docstring(node), node.name


def test_help_names_every_default(capsys):
    with pytest.raises(SystemExit) as stop:
        kd_mnist.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "default: 20, small digits: 800" in text and "(default: 0.5)" in text


def test_the_scripts_metadata_agrees_with_the_requirements():
    block = SOURCE.split("# /// script\n")[1].split("# ///")[0]
    declared = ast.literal_eval(block.replace("#", "").split("dependencies =")[1].strip())
    assert declared == (ROOT / "requirements.txt").read_text().split()
