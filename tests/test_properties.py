"""Properties that hold for any input: hypothesis looks for one that breaks them."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from test_script import strict_json

import kd_mnist

pytestmark = pytest.mark.slow
ONE_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["auto", "cpu", "all", "1", "2", "300"]),
)
FLAGS = [action.option_strings[-1] for action in kd_mnist.build_parser()._actions]
FLAGS = [flag for flag in FLAGS if flag not in ("--out-dir", "--help", "--predict")]
ANYTHING = st.lists(st.tuples(st.sampled_from(FLAGS), st.lists(WORDS, max_size=3)), max_size=4)


@settings(ONE_FOLDER, max_examples=300)
@given(ANYTHING)
def test_any_command_line_is_accepted_or_refused_in_one_line(tmp_path, monkeypatch, capsys, words):
    digits = kd_mnist.load_small_digits()
    monkeypatch.setattr(kd_mnist, "run_experiment", lambda *_: None)
    monkeypatch.setattr(kd_mnist, "load_mnist", lambda _: digits)
    monkeypatch.chdir(tmp_path)
    try:
        code = kd_mnist.main([word for flag, values in words for word in (flag, *values)])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code in (0, 2) and bool(error) == bool(code)
    if error:
        assert error.startswith("kd_mnist.py: error: ") and error.endswith("\n")


RATES = st.floats(-8, 3).map(lambda exponent: 10**exponent)
SENSIBLE = st.fixed_dictionaries(
    {"--subset": st.integers(100, 300)},
    optional={
        "--temperature": st.floats(0.01, 1000),
        "--alpha": st.floats(0, 1),
        "--lr": RATES,
        "--teacher-lr": RATES,
        "--batch-size": st.integers(1, 400),
        "--student-hidden": st.lists(st.integers(1, 20), min_size=1, max_size=3),
        "--student-jitter": st.integers(0, 4),
        "--holdout": st.integers(100, 900),
        "--runs": st.integers(1, 2),
        "--bf16": st.sampled_from(["auto", "none", "teacher", "all"]),
    },
)


@settings(ONE_FOLDER, max_examples=20)
@given(SENSIBLE)
def test_any_accepted_setting_ends_in_whole_numbers_or_one_line(
    tmp_path, capsys, monkeypatch, chosen
):
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)  # which takes long
    arguments = ["--dataset", "digits", "--teacher-epochs", "1", "--student-epochs", "1"]
    arguments += ["--runs", "1", "--device", "cpu", "--out-dir", str(tmp_path)]
    for flag, value in chosen.items():
        arguments += [flag, *map(str, value if isinstance(value, list) else [value])]
    try:
        code = kd_mnist.main(arguments)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    if code == 0:
        results = strict_json(tmp_path / "digits_results.json")
        for student in results["student_distilled"]["runs"]:
            assert 0 <= student["accuracy"] <= 1 and student["nll"] >= 0
    else:
        assert code in (1, 2) and error.startswith("kd_mnist.py: error: ")
        assert error.count("\n") == 1


SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
PICTURES = SIZES.flatmap(lambda size: arrays(np.uint8, size, fill=st.integers(0, 255)))


@settings(ONE_FOLDER, max_examples=200)
@given(PICTURES, st.sampled_from(["L", "LA", "RGB", "RGBA", "P", "1", "I;16", "I", "CMYK"]))
def test_any_image_becomes_a_digit_or_is_refused(picture, mode):
    image, file = Image.fromarray(picture), io.BytesIO()
    deep = Image.fromarray(picture.astype(np.uint16) * 257)
    image = deep if mode == "I;16" else image.convert(mode)
    image.save(file, "TIFF" if mode in ("CMYK", "I") else "PNG")
    try:
        digit = kd_mnist.read_digit(file)
    except OSError as error:
        assert "stands out" in str(error)
    else:
        assert digit.shape == (1, 1, 28, 28) and digit.sum() > 0
        assert 0 <= digit.min() and digit.max() <= 1
