"""The script as a person runs it: whole runs on tiny data, bad input, trouble, its promises."""

import ast
import math
import re
import runpy

import matplotlib.image
import pytest
import torch
from conftest import FIGURES, FILES, ROOT, TINY, WEIGHTS, strict_json

import kd_mnist


def test_a_whole_run_from_an_empty_folder_without_network(alone_in):
    done = alone_in(*TINY[2:])  # --dataset is auto
    assert done.returncode == 0, done.stderr
    expected = {"kd_mnist.py", *(f"digits_{file}" for file in FILES)}
    assert {path.name for path in alone_in.folder.iterdir()} - {"data"} == expected
    assert "small digits are used, NOT MNIST" in done.stderr and "Error downloading" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("small digits, not MNIST: digits_* are in ")
    table = done.stdout.split("Student distilled")[1]  # behind what a download prints
    assert max(map(len, table.splitlines())) <= 80
    for part in ("20,490", "101,770", "1,031,744", "101,632", "'runs': 1"):
        assert part in done.stdout
    assert len(re.findall(r"epoch 1/1 +loss .*% .* s\n", done.stdout)) == 3

    results = strict_json(alone_in.folder / "digits_results.json")
    assert results["settings"]["student_epochs"] == 1 and results["run"]["seconds"] > 0
    assert {"data", "device", "threads", "torch", "teacher_file"} < set(results["run"])
    models = [results[name] for name in ("teacher", "student_alone", "student_distilled")]
    for summary in models:
        assert set(summary) == {"runs", "mean", "sd"} and len(summary["runs"]) == 1
        (run,) = summary["runs"]
        assert run["accuracy"] == pytest.approx(1 - run["errors"] / 597)
        right = sum(run["confusion_matrix"][k][k] for k in range(10))
        assert summary["mean"]["errors"] == run["errors"] == 597 - right
        assert run["history"][-1]["test_accuracy"] == pytest.approx(run["accuracy"])
        assert len(run["shift_errors"]) == 5 and "Linear" in "".join(run["layers"])
        assert run["shift_errors"][0] == pytest.approx(100 * run["errors"] / 597)
    gain = models[1]["mean"]["errors"] - models[2]["mean"]["errors"]
    assert results["gain"]["errors"] == gain
    assert results["gain"]["points"] == pytest.approx(100 * gain / 597)

    for file in FIGURES:
        picture = matplotlib.image.imread(alone_in.folder / f"digits_{file}")
        assert min(picture.shape[:2]) >= 600 and picture[..., :3].std() > 0.03
    images, labels = kd_mnist.load_small_digits()[1]
    networks = (kd_mnist.TeacherCNN(), kd_mnist.StudentMLP(), kd_mnist.StudentMLP())
    for network, file, summary in zip(networks, WEIGHTS, models):
        network.load_state_dict(torch.load(alone_in.folder / f"digits_{file}", weights_only=True))
        accuracy = kd_mnist.accuracy(kd_mnist.predict(network, images), labels)
        assert accuracy == pytest.approx(summary["mean"]["accuracy"])


USAGE = "usage: python kd_mnist.py [options] (--help lists them)\n"


def test_importing_does_nothing_and_a_bad_setting_is_one_line(alone_in):
    code = "import sys, kd_mnist; sys.exit(kd_mnist.main(['--alpha', '2']))"
    done = alone_in(python=("-c", code))
    error = "-c: error: alpha must be float 0 to 1, not 2.0\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", USAGE + error)
    assert list(alone_in.folder.iterdir()) == [alone_in.script]


@pytest.fixture
def run_main(tiny, tmp_path, monkeypatch):
    """A tiny run in this process, without figures: its exit code and its results."""
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)
    monkeypatch.setattr(kd_mnist, "load_small_digits", lambda: tiny)

    def run_main(*arguments):
        code = kd_mnist.main([*TINY, "--device", "cpu", "--out-dir", str(tmp_path), *arguments])
        return code, strict_json(tmp_path / "digits_results.json")

    return run_main


def test_several_runs_are_paired_and_the_first_is_the_single_run(run_main, capsys):
    _, single = run_main("--seed", "7")
    assert "exact McNemar test, p = " in capsys.readouterr().out
    code, several = run_main("--seed", "7", "--runs", "3")
    printed = capsys.readouterr().out
    assert "Replacing digits_* of an earlier run" in printed
    for kind in ("alone", "distilled"):
        one, all_three = single[f"student_{kind}"], several[f"student_{kind}"]
        assert len(all_three["runs"]) == 3 and f"Student {kind}, seed 9" in printed
        assert len({run["history"][0]["loss"] for run in all_three["runs"]}) == 3
        nll = [run["nll"] for run in all_three["runs"]]
        assert all_three["mean"]["nll"] == pytest.approx(sum(nll) / 3)
        assert nll[0] == one["runs"][0]["nll"]
    low, high = several["gain"]["interval"]
    assert code == 0 and low <= several["gain"]["points"] <= high
    assert "3 pairs, 95 % interval: " in printed and " +/- " in printed


def test_the_experiment_gives_each_student_what_it_should_have(run_main, monkeypatch, tmp_path):
    """One without and one with the saved teacher's logits of its images; the rest is the same."""
    calls, train = [], kd_mnist.train

    def watching(model, train_set, test_set, **options):
        calls.append(dict(options, images=train_set[0]))
        return train(model, train_set, test_set, **options)

    monkeypatch.setattr(kd_mnist, "train", watching)
    run_main("--temperature", "3", "--alpha", "0.7", "--student-shift", "1")
    teacher = kd_mnist.TeacherCNN()
    teacher.load_state_dict(torch.load(tmp_path / "digits_teacher.pt", weights_only=True))
    _, alone, distilled = calls
    soft, loss = distilled.pop("teacher_logits"), distilled.pop("distillation_loss")
    assert alone.pop("teacher_logits") is None and alone.pop("distillation_loss") is None
    assert alone == distilled and alone["max_shift"] == 1
    assert torch.equal(soft, kd_mnist.soft_labels(teacher, alone["images"], 1))
    assert (loss.temperature, loss.alpha) == (3, 0.7)


def test_a_saved_teacher_is_used_again_instead_of_trained(run_main, tmp_path, capsys):
    _, first = run_main()
    capsys.readouterr()
    saved = torch.load(tmp_path / "digits_teacher.pt", weights_only=True)
    code, again = run_main("--teacher", str(tmp_path / "digits_teacher.pt"))
    assert code == 0 and capsys.readouterr().out.count("epoch 1/1") == 2
    reloaded = torch.load(tmp_path / "digits_teacher.pt", weights_only=True)
    assert all(torch.equal(saved[key], reloaded[key]) for key in saved)
    for name in ("student_alone", "student_distilled"):
        assert again[name]["mean"]["nll"] == first[name]["mean"]["nll"]


@pytest.mark.parametrize(
    "file", [b"text", "text", [1], kd_mnist.StudentMLP(), kd_mnist.StudentMLP().state_dict()]
)
def test_weights_that_do_not_fit_are_one_line(tmp_path, monkeypatch, capsys, file):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kd_mnist, "load_data", None)  # nothing may be loaded
    torch.save(file, "other.pt")
    if isinstance(file, bytes):
        (tmp_path / "other.pt").write_bytes(file)
    with pytest.raises(SystemExit):
        kd_mnist.main(["--teacher", "other.pt"])
    error = capsys.readouterr().err.splitlines()[1]
    assert re.search(": error: .*" + ("torch.save" if type(file) is bytes else "state_dict"), error)


def test_holdout_leaves_the_test_set_alone(run_main, monkeypatch, capsys):
    train_set, test_set = kd_mnist.load_small_digits()
    broken = torch.full_like(test_set[0], math.nan), test_set[1]
    monkeypatch.setattr(kd_mnist, "load_small_digits", lambda: (train_set, broken))
    assert run_main("--holdout", "50")[0] == 0
    assert "100 training images, 50 to test on" in capsys.readouterr().out


BAD = (
    ("--temperature --student-lr --teacher-lr", "0 -1 nan inf warm 1001"),
    ("--alpha", "-0.1 1.01 nan half"),
    ("--teacher-epochs --student-epochs --runs --batch-size --student-hidden", "0 -1 1.5 inf"),
    ("--holdout", f"0 -1 5 1201 1200 {'9' * 18} {'9' * 400}"),
    ("--teacher-shift --student-shift --seed", "-1 1.5"),
    ("--student-shift --dataset --epochs --temp --bf16", "5"),
    ("--device", "5 cuda:99 meta gpu"),
)
BAD = [(flag, v) for flags, values in BAD for flag in flags.split() for v in values.split()]


@pytest.mark.parametrize("flag, value", BAD)
def test_bad_settings_are_refused_in_one_line(tmp_path, monkeypatch, capsys, flag, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd_mnist.py").touch()
    monkeypatch.setattr(kd_mnist, "run_experiment", None)  # nothing may be trained
    with pytest.raises(SystemExit) as stop:
        kd_mnist.main(["--dataset", "digits", flag, value])
    usage, error = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and usage + "\n" == USAGE
    assert ": error: " in error
    if flag == "--holdout":  # scikit-learn names the limit, torch the device
        assert len(value) == 400 or "test_size" in error or "train_size" in error
    elif flag != "--device":
        assert flag in error or flag[2:].replace("-", "_") in error
    assert list(tmp_path.iterdir()) == [tmp_path / "kd_mnist.py"]


@pytest.mark.parametrize("folder", ["kd_mnist.py", "kd_mnist.py/below", "x" * 5000])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd_mnist.py").touch()
    monkeypatch.setattr(kd_mnist, "run_experiment", None)
    assert kd_mnist.main(["--dataset", "digits", "--out-dir", folder]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and folder in error


TROUBLE = (FloatingPointError("the loss is NaN, try a lower lr"), KeyboardInterrupt())


@pytest.mark.parametrize("error", TROUBLE, ids=repr)
def test_trouble_in_training_is_one_line_and_touches_nothing(tmp_path, capsys, monkeypatch, error):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(kd_mnist, "predict", failing)
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
    assert kd_mnist.main([*TINY, "--out-dir", str(tmp_path)]) == code
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and list(tmp_path.iterdir()) == []
    assert "interrupted" in line or "lower lr" in line


def test_a_folder_that_the_terminal_cannot_spell(alone_in):
    done = alone_in(*TINY, "--runs", "2", "--out-dir", "数字", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "") and "+/-" in done.stdout
    assert len(list((alone_in.folder / "数字").iterdir())) == len(FILES)


def test_bfloat16_where_the_processor_has_it(tiny, monkeypatch):
    seen, found = [], {}
    monkeypatch.setattr(
        kd_mnist, "train", lambda *_, **__: seen.append(torch.is_autocast_enabled("cpu"))
    )
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    for capability in ("amx_bf16", "avx512_bf16", "avx2"):
        found = {capability: True}
        for bf16 in (1, 0):
            kd_mnist.train_teacher(*tiny, kd_mnist.Settings(bf16=bf16))
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in older versions of torch
    kd_mnist.train_teacher(*tiny)
    assert seen == [True, False, True, False, False, False, False]


@pytest.mark.slow
def test_distillation_helps_offline(tmp_path):
    assert kd_mnist.main(["--dataset", "digits", "--out-dir", str(tmp_path), "--seed", "1"]) == 0
    gain = strict_json(tmp_path / "digits_results.json")["gain"]
    assert gain["verdict"] == "better" and gain["errors"] > 5


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


def test_the_method_comes_first_and_everything_is_documented():
    assert DEFINITIONS["train"].end_lineno < 225
    assert all(ast.get_docstring(node) for node in DEFINITIONS.values())
    assert "fmt: " + "skip" not in SOURCE and "no" + "qa" not in SOURCE
