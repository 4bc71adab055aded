"""Properties that hold for any input: hypothesis looks for one that breaks them."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import kd_mnist

ONE_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def lists(elements, most):
    return st.lists(elements, min_size=1, max_size=most)


WORDS = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["auto", "cpu", "all", "mlp", "1", "2", "300"]),
)
FLAGS = [action.option_strings[-1] for action in kd_mnist.build_parser()._actions]
FLAGS = [flag for flag in FLAGS if flag not in ("--out-dir", "--help", "--predict")]
ANYTHING = st.lists(st.tuples(st.sampled_from(FLAGS), st.lists(WORDS, max_size=3)), max_size=4)


@settings(ONE_FOLDER, max_examples=500)
@given(ANYTHING)
def test_any_command_line_is_accepted_or_refused_in_one_line(tmp_path, monkeypatch, capsys, words):
    monkeypatch.setattr(kd_mnist, "run", lambda args, parser: None)
    monkeypatch.chdir(tmp_path)
    try:
        code = kd_mnist.main([word for flag, values in words for word in (flag, *values)])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code in (0, 2) and bool(error) == bool(code)
    if error:
        assert error.startswith("kd_mnist.py: error: ") and error.endswith("\n")


SENSIBLE = st.fixed_dictionaries(
    {"--subset": st.integers(100, 300)},
    optional={
        "--temperature": st.floats(0.01, 1000),
        "--alpha": st.floats(0, 1),
        "--lr": st.floats(-8, 3).map(lambda exponent: 10**exponent),
        "--batch-size": st.integers(1, 400),
        "--teacher-epochs": st.integers(1, 2),
        "--student-epochs": st.integers(1, 2),
        "--teacher": st.sampled_from(["cnn", "mlp"]),
        "--teacher-channels": st.lists(st.integers(1, 5), min_size=2, max_size=2),
        "--teacher-hidden": lists(st.integers(1, 20), 3),
        "--student-hidden": lists(st.integers(1, 20), 3),
        "--jitter": st.integers(0, 4),
        "--student-jitter": st.integers(0, 4),
        "--omit-digits": lists(st.integers(0, 9), 8),
        "--holdout": st.integers(100, 900),
        "--seed": st.integers(0, 2**31),
        "--runs": st.integers(1, 2),
        "--bf16": st.sampled_from(["auto", "none", "teacher", "all"]),
        "--one-cycle": st.none(),
        "--no-control": st.none(),
        "--dry-run": st.none(),
    },
)


@settings(ONE_FOLDER, max_examples=20)
@given(SENSIBLE)
def test_any_accepted_setting_ends_in_whole_numbers_or_one_line(tmp_path, capsys, chosen):
    arguments = ["--teacher-epochs", "1", "--student-epochs", "1"]
    for flag, value in chosen.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        arguments += [flag, *map(str, values)]
    files = ["--dataset", "digits", "--device", "cpu", "--out-dir", str(tmp_path)]
    name = "dry_run_digits_results.json" if "--dry-run" in chosen else "digits_results.json"
    (tmp_path / name).unlink(missing_ok=True)
    try:
        code = kd_mnist.main([*arguments, *files])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    if code == 0:
        text = (tmp_path / name).read_text()
        for student in json.loads(text, parse_constant=refuse)["student_distilled"]["runs"]:
            assert 0 <= student["accuracy"] <= 1 and student["nll"] >= 0
    else:
        assert code in (1, 2) and error.startswith("kd_mnist.py: error: ")
        assert error.count("\n") == 1


def logits(n, c):
    return arrays(np.float32, (n, c), elements=st.floats(-1000, 1000, width=32))


BATCHES = st.integers(1, 5).flatmap(
    lambda n: st.integers(2, 12).flatmap(
        lambda c: st.tuples(logits(n, c), logits(n, c), lists(st.integers(0, c - 1), n))
    )
)


@settings(deadline=None, max_examples=200)
@given(BATCHES, st.floats(0.01, 1000), st.floats(0, 1))
def test_the_loss_and_its_gradient_are_finite_and_never_negative(batch, temperature, alpha):
    student, teacher = (torch.from_numpy(part).double() for part in batch[:2])
    labels = torch.tensor((batch[2] * len(student))[: len(student)])
    student.requires_grad_()
    distillation_loss = kd_mnist.DistillationLoss(temperature, alpha)
    loss = distillation_loss(student, teacher, labels)
    loss.backward()
    assert math.isfinite(loss.item()) and loss.item() >= -1e-6 * temperature**2
    assert student.grad.isfinite().all()
    # Neither the order of the images nor a constant added to an image's logits changes anything.
    backwards = distillation_loss(student.flip(0) - 3, teacher.flip(0) + 7, labels.flip(0))
    torch.testing.assert_close(backwards, loss, rtol=1e-6, atol=1e-6 * max(1, temperature**2))


PICTURES = arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), fill=st.integers(0, 255)
)


@settings(ONE_FOLDER, max_examples=200)
@given(PICTURES, st.sampled_from(["L", "LA", "RGB", "RGBA", "P", "1", "I;16", "I", "CMYK"]))
def test_any_image_becomes_a_digit_or_is_refused(tmp_path, picture, mode):
    image = Image.fromarray(picture)
    if mode == "I;16":
        image = Image.fromarray(picture.astype(np.uint16) * 257)
    elif mode != "L":
        image = image.convert(mode)
    path = tmp_path / ("picture.tif" if mode in ("CMYK", "I") else "picture.png")
    image.save(path)
    given_image = kd_mnist.read_image(path)
    assert given_image.shape == (3, *picture.shape)
    assert 0 <= given_image.min() and given_image.max() <= 1
    try:
        digit = kd_mnist.prepare_digit(given_image)
    except ValueError as error:
        assert "stands out" in str(error)
    else:
        assert digit.shape == (1, 28, 28) and digit.sum() > 0
        assert 0 <= digit.min() and digit.max() <= 1 + 1e-6


def test_more_than_8_bits_of_grey_are_the_same_picture(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
    picture[0, 0] = 255
    Image.fromarray(picture).save(tmp_path / "8.png")
    Image.fromarray(picture.astype(np.uint16) * 257).save(tmp_path / "16.png")
    eight, sixteen = (kd_mnist.read_image(tmp_path / f"{bits}.png") for bits in (8, 16))
    assert (eight - sixteen).abs().max() <= 1 / 255 + 1e-6
    assert eight.std().item() == pytest.approx(sixteen.std().item(), rel=0.01)
