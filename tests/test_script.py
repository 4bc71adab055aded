"""The script as a person runs it: whole runs on tiny data, bad input, what can fail."""

import ast
import json
import math
import re
import runpy
import sys

import matplotlib.image
import pytest
import torch
from conftest import FIGURES, FILES, ROOT, TINY, WEIGHTS
from torch import nn

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
    for part in (
        "20,490",
        "101,770",
        "1,031,744",
        "101,632",
        "The first 5 test images",
    ):
        assert part in done.stdout
    soft_labels = done.stdout.index("The teacher's soft labels")
    assert (
        done.stdout.index("epoch  1/1")
        < soft_labels
        < done.stdout.index("student alone")
    )
    assert re.findall(r"epoch  1/1   (\D+) \d", done.stdout) == [
        "cross-entropy",
        "cross-entropy",
        "distillation loss",
    ]
    report = strict_json(alone_in.folder / "digits_results.json")
    assert report["settings"]["student_epochs"] == 1
    assert report["run"]["command"].startswith("python kd_mnist.py --teacher-epochs 1")
    assert report["run"]["seconds"] > 0 and report["run"]["torch"] in torch.__version__
    records = report["networks"]
    for record, file in zip(records, WEIGHTS):
        right = sum(record["confusion_matrix"][k][k] for k in range(10))
        assert record["errors"] == 597 - right
        assert record["history"][-1]["test_accuracy"] == pytest.approx(right / 597)
        assert file.startswith(record["network"].replace(" ", "_"))
    gain = records[1]["errors"] - records[2]["errors"]
    assert report["gain"]["errors_saved"] == gain
    for file in FIGURES:
        picture = matplotlib.image.imread(alone_in.folder / f"digits_{file}")
        assert min(picture.shape[:2]) >= 600 and picture[..., :3].std() > 0.03


@pytest.fixture
def run_main(tiny, tmp_path, monkeypatch, capsys):
    """A tiny run in this process, without figures: what it returned, printed, wrote."""
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)
    monkeypatch.setattr(kd_mnist, "load_small_digits", lambda: tiny)

    def run_main(*arguments):
        result = kd_mnist.main(
            [*TINY, "--device", "cpu", "--out-dir", str(tmp_path), *arguments]
        )
        return (
            result,
            capsys.readouterr().out,
            strict_json(tmp_path / "digits_results.json"),
        )

    return run_main


def test_main_returns_what_it_wrote(run_main, tmp_path, tiny):
    (networks, records), printed, report = run_main("--runs", "2", "--seed", "7")
    assert report["networks"] == records and len(records) == 5
    assert (
        "student distilled, seed 8" in printed
        and "2 pairs with this teacher, 95 % interval" in printed
    )
    for name in ("teacher", "student alone", "student distilled"):
        file = tmp_path / f"digits_{name.replace(' ', '_')}.pt"
        weights = torch.load(file, weights_only=True)
        for key, value in networks[name, 7].state_dict().items():
            assert torch.equal(weights[key], value)
    assert not torch.equal(tiny[0][1], kd_mnist.repeat(tiny[0])[1])


def test_a_saved_teacher_is_used_again_instead_of_trained(run_main, tmp_path):
    (_, first), _, _ = run_main()
    file = str(tmp_path / "digits_teacher.pt")
    (_, again), printed, report = run_main("--teacher", file, "--holdout", "20")
    assert printed.count("epoch  1/1") == 2 and "the same --holdout" in printed
    assert "130 images to train on, 20 to test on" in printed
    assert report["run"]["teacher"] == file
    assert "teacher_epochs" not in report["settings"]
    (_, again), _, _ = run_main("--teacher", file)
    assert [r["nll"] for r in again] == [r["nll"] for r in first]


def test_holdout_never_tests_on_a_copy_of_a_training_image(run_main, monkeypatch):
    sets = []

    def watching(train_set, test_set, *_):
        sets.extend([train_set[0], test_set[0]])
        raise FloatingPointError

    monkeypatch.setattr(kd_mnist, "run_experiment", watching)
    with pytest.raises(SystemExit):
        run_main("--holdout", "50")
    assert [len(images) for images in sets] == [2000, 50]
    assert not any((sets[0] == image).flatten(1).all(1).any() for image in sets[1])


SMALL = nn.Linear(1, 1)
NAN = {key: w * math.nan for key, w in kd_mnist.TeacherCNN().state_dict().items()}
UNFIT = {"text": b"text", "empty": b"", "a model": SMALL, "another": SMALL.state_dict()}
UNFIT |= {
    "not finite": NAN,
    "wider": kd_mnist.TeacherCNN(8).state_dict(),
    "missing": None,
}


@pytest.mark.parametrize("name", UNFIT)
def test_weights_that_do_not_fit_are_one_line(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kd_mnist, "load_data", None)  # nothing may be loaded
    if isinstance(UNFIT[name], bytes):
        (tmp_path / "other.pt").write_bytes(UNFIT[name])
    elif UNFIT[name] is not None:
        torch.save(UNFIT[name], "other.pt")
    reasons = {"missing": "No such file", "not finite": "not finite"}
    expected = reasons.get(name, "other.pt does not hold.*--teacher-channels 16")
    with pytest.raises(SystemExit, match=f"^kd_mnist.py: error: .*{expected}.*$"):
        kd_mnist.main(["--teacher", "other.pt"])


BAD = {
    "--temperature": ("0", "nan", "1001", "warm"),
    "--alpha": ("-0.1", "1.01"),
    "--student-epochs": ("0", "1.5"),
    "--lr": ("0", "-1"),
    "--holdout": ("-1", "5", "1200"),
    "--device": ("cuda:99", "gpu"),
    "--epochs": ("5",),
    "--out-dir": ("kd_mnist.py", "x" * 5000),
}
BAD = [(flag, value) for flag, values in BAD.items() for value in values]


@pytest.mark.parametrize("flag, value", BAD)
def test_bad_options_end_before_anything_is_done(
    tmp_path, monkeypatch, capsys, flag, value
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd_mnist.py").touch()
    monkeypatch.setattr(kd_mnist, "run_experiment", None)  # nothing may be trained
    with pytest.raises(SystemExit) as stop:
        kd_mnist.main(["--dataset", "digits", flag, value])
    reason = str(stop.value) if stop.value.code != 2 else capsys.readouterr().err
    assert "error: " in reason and "Traceback" not in reason
    if stop.value.code != 2:
        assert reason.startswith("kd_mnist.py: error: ") and "\n" not in reason
    assert list(tmp_path.iterdir()) == [tmp_path / "kd_mnist.py"]


def test_what_cannot_be_drawn_or_written_is_named_and_the_rest_is_there(
    tiny, tmp_path, monkeypatch, capsys
):
    def no_latex(*_):
        raise RuntimeError("latex could\nnot be found")

    monkeypatch.setattr(kd_mnist, "load_small_digits", lambda: tiny)
    monkeypatch.setattr(kd_mnist, "draw_curves", no_latex)
    (tmp_path / "digits_student_alone.pt").mkdir()
    with pytest.raises(SystemExit) as stop:
        kd_mnist.main([*TINY, "--out-dir", str(tmp_path)])
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and len(lines) == 2
    assert "digits_student_alone.pt" in lines[0]
    assert "digits_training_curves.png: latex could not be found" in lines[1]
    written = {path.name for path in tmp_path.iterdir() if path.is_file()}
    unwritten = {"digits_student_alone.pt", "digits_training_curves.png"}
    assert written == {f"digits_{file}" for file in FILES} - unwritten


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
        assert new(torch.zeros(2, 10), torch.ones(2, 10), torch.tensor([0, 1])) > 0
    else:
        assert new(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_the_method_pasted_up_to_train_trains_both_ways(tmp_path, tiny):
    lines = SOURCE.splitlines()[: DEFINITIONS["train"].end_lineno]
    (tmp_path / "method.py").write_text("\n".join(lines), encoding="utf-8")
    method = runpy.run_path(str(tmp_path / "method.py"))
    teacher, images = method["TeacherCNN"](), tiny[0][0]
    method["train"](teacher, *tiny, epochs=1, transform=method["random_shift"])
    for logits in (None, method["predict"](teacher, images)):
        history = method["train"](
            method["StudentMLP"](), *tiny, epochs=2, teacher_logits=logits
        )
        assert history[1]["loss"] < history[0]["loss"]


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
    assert "kd_mnist" in sys.modules


@pytest.mark.slow
def test_distillation_helps_offline(tmp_path):
    arguments = ["--dataset", "digits", "--out-dir", str(tmp_path), "--runs", "3"]
    kd_mnist.main(arguments)
    assert strict_json(tmp_path / "digits_results.json")["gain"]["errors_saved"] > 0
