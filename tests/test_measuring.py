"""Measurements and comparisons against cases worked out by hand; the figures hold what they say."""

import io
import math

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import nn

import kd_mnist


def test_measure_against_a_case_by_hand():
    """Two "networks" of no layers: their images are the logits of ten digits, twice."""
    labels = torch.arange(10).repeat(2)
    logits = torch.full((20, 10), -50.0)
    logits[range(20), labels] = 0.0  # sure and right ...
    logits[0] = torch.log(torch.tensor([0.2, 0.5, 0.3] + [1e-30] * 7))  # ... but for the first
    teacher = nn.functional.one_hot(labels, 10).float()
    teacher[1] = teacher[2]
    backwards = nn.Sequential(nn.Flatten(), nn.Softmin(1))  # the smallest becomes the largest
    models = [(nn.Flatten(), ["a history"]), (backwards, ["another"])]
    measured = kd_mnist.measure(models, (logits.view(20, 1, 1, 10), labels), teacher)
    first, second = measured["runs"]
    assert first["errors"] == 1 and first["accuracy"] == 0.95 and first["history"] == ["a history"]
    assert first["nll"] == pytest.approx(-math.log(0.2) / 20, rel=1e-6)
    assert first["agreement"] == pytest.approx(18 / 20)
    assert first["confidence"] == pytest.approx((19 + 0.5) / 20)
    assert first["top3_accuracy"] == first["auc"] == 1.0 and second["auc"] < 0.5
    assert first["report"]["0"]["recall"] == 0.5 and first["report"]["1"]["precision"] == 2 / 3
    assert first["parameters"] == first["multiply_adds"] == 0
    for key in ("errors", "accuracy", "nll", "agreement", "ms_per_1000"):
        assert measured[key] == pytest.approx((first[key] + second[key]) / 2)
    assert measured["report"] == first["report"] and second["errors"] > 10


def results(*errors):
    return {"runs": [{"errors": e} for e in errors]}


# p by hand: twice the tail of a fair coin's binomial distribution, at most 1
@pytest.mark.parametrize(
    "a, b, p", [(0, 0, 1), (5, 0, 2 / 32), (6, 0, 2 / 64), (0, 6, 2 / 64), (10, 2, 158 / 4096)]
)
def test_one_pair_is_judged_by_the_exact_mcnemar_test(a, b, p):
    both = [True, False] * 4  # images that tell nothing about a difference
    wrong_alone = torch.tensor([True] * a + [False] * b + both)
    wrong_distilled = torch.tensor([False] * a + [True] * b + both)
    gain = kd_mnist.compare(results(a + 4), results(b + 4), wrong_alone, wrong_distilled)
    better = "better" if a > b else "worse"
    assert gain["p_value"] == pytest.approx(p) and gain["interval"] is None
    assert gain["verdict"] == (better if p < 0.05 else "no difference shown")
    assert gain["errors"] == a - b and gain["points"] == pytest.approx(100 * (a - b) / (a + b + 8))


# The half of the interval by hand: t (12.706, 4.303, 3.182 in printed tables) * sd / sqrt(n)
@pytest.mark.parametrize(
    "alone, distilled, mean, half, verdict",
    [
        ([20, 22, 21], [10, 11, 12], 10, 4.303 * 1 / 3**0.5, "better"),
        ([10, 11, 12], [20, 22, 21], -10, 4.303 * 1 / 3**0.5, "worse"),
        ([12, 13, 14, 15], [10, 10, 10, 11], 3.25, 3.182 * (11 / 12) ** 0.5 / 2, "better"),
        ([30, 20], [10, 15], 12.5, 12.706 * 7.5, "no difference shown"),
    ],
)
def test_several_pairs_are_judged_by_the_interval_of_their_mean(
    alone, distilled, mean, half, verdict
):
    wrong = torch.zeros(100, dtype=torch.bool)  # so that errors are points
    gain = kd_mnist.compare(results(*alone), results(*distilled), wrong, wrong)
    assert gain["verdict"] == verdict and gain["errors"] == pytest.approx(mean)
    assert gain["points"] == pytest.approx(mean)
    assert gain["interval"] == pytest.approx([mean - half, mean + half], rel=2e-3, abs=0.02)


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    buffer.seek(0)
    return matplotlib.image.imread(buffer)[..., :3]


def test_confusion_matrix_shows_every_count_and_colours_the_errors():
    labels = torch.arange(10).repeat(20)
    predicted = labels.clone()
    predicted[:3], predicted[3] = 5, 8  # images of 0, 1, 2, 3: three are called 5, one 8
    figure = kd_mnist.draw_confusion(labels, nn.functional.one_hot(predicted), "some title")
    (axes,), shown = figure.axes, {}
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        if text.get_text():
            shown[row, column] = int(text.get_text())
    expected = {(digit, digit): 19 if digit < 4 else 20 for digit in range(10)}
    assert shown == expected | {(0, 5): 1, (1, 5): 1, (2, 5): 1, (3, 8): 1}
    assert axes.get_xlabel() == "predicted digit" and axes.get_ylabel() == "true digit"
    assert axes.get_title() == "some title: distilled student, 4 errors in 200"
    red, green = (part.get_facecolors().round(3) for part in axes.collections)
    assert len(np.unique(red[red[:, 3] > 0], axis=0)) == 2  # an error stands out from none
    assert len(np.unique(green[green[:, 3] > 0], axis=0)) == 1  # 19 and 20 look the same
    picture = pixels(figure)
    assert picture.shape == (600, 700, 3) and picture.std() > 0.05


def history(*accuracies):
    records = enumerate(accuracies, 1)
    return [{"epoch": i, "loss": 1 / i, "test_accuracy": a, "seconds": 0.1} for i, a in records]


def test_curves_show_mean_and_spread_and_the_teacher():
    students = {
        "alone": [(None, history(0.90, 0.92)), (None, history(0.92, 0.96))],
        "distilled": [(None, history(0.91, 0.95)), (None, history(0.93, 0.97))],
    }
    figure = kd_mnist.draw_curves(history(0.97, 0.99), students, "some title")
    loss, accuracy = figure.axes
    alone, distilled, teacher = (line.get_ydata() for line in accuracy.lines)
    np.testing.assert_allclose(alone, [0.91, 0.94])
    np.testing.assert_allclose(distilled, [0.92, 0.96])
    np.testing.assert_allclose(teacher, [0.99, 0.99])
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1, 0.5])
    band = accuracy.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(0.91 - 0.0002**0.5)  # one standard deviation
    assert band.max() == pytest.approx(0.94 + 0.0008**0.5)
    legend = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert legend == ["alone", "distilled", "teacher (99.00%)"]
    assert "some title" in figure.get_suptitle()
    picture = pixels(figure)
    assert picture.shape == (400, 1000, 3) and picture.std() > 0.05


def test_soft_labels_are_shown_of_images_where_the_temperature_tells_most():
    """Not the wrong 0, a second 1, and those that T leaves unsure or sure."""
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(10).repeat(2)
    margins = torch.tensor([6, 6, 6.1, 6.2, 6.3, 6.4] + [0.1] * 5 + [6.05] + [60] * 8)[:, None]
    teacher = nn.functional.one_hot(labels, 10) * margins
    teacher[0] = teacher[1]  # wrong
    logits = {"teacher": teacher, "alone": teacher.roll(1, 1)}
    figure = kd_mnist.draw_soft_labels(images, labels, logits, 4.0, "some title")
    assert len(figure.axes) == 15 and "some title" in figure.get_suptitle()
    for row, i in enumerate(range(1, 6)):
        picture, hard, soft = figure.axes[3 * row : 3 * row + 3]
        np.testing.assert_array_equal(picture.images[0].get_array(), images[i, 0])
        assert picture.get_ylabel() == f"true: {i}\nteacher: {i}\nalone: {i + 1}"
        for axes, temperature in ((hard, 1), (soft, 4)):
            heights = [bar.get_height() for bar in axes.patches]
            np.testing.assert_allclose(heights, (teacher[i] / temperature).softmax(0), rtol=1e-5)
            assert axes.get_title().endswith(f"at T = {temperature}")
    assert pixels(figure).std() > 0.05
