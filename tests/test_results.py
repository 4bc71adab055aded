"""What is measured, compared and drawn, on cases worked out by hand."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import kd_mnist
from kd_mnist import errors_saved, interval, measure, print_results


def test_measure_against_a_case_by_hand():
    """A "network" of no layers: its images are the logits of ten digits, twice."""
    labels = torch.arange(10).repeat(2)
    logits = torch.full((20, 10), -50.0)
    logits[range(20), labels] = 0.0  # sure and right ...
    logits[0] = torch.tensor([0.2, 0.5, 0.3] + [0.0] * 7)  # ... but the first
    test_set = logits.view(20, 1, 1, 10), labels
    record = measure("mine", 7, nn.Flatten(), ["a history"], test_set)
    assert record["network"] == "mine" and record["seed"] == 7
    assert record["errors"] == 1 and record["accuracy"] == pytest.approx(0.95)
    assert record["history"] == ["a history"] and record["milliseconds"] > 0
    assert record["confusion_matrix"][0] == [1, 1] + [0] * 8
    assert record["report"]["0"]["recall"] == 0.5
    assert record["report"]["1"]["precision"] == pytest.approx(2 / 3)
    assert record["report"]["1"]["f1-score"] == pytest.approx(0.8)
    assert record["weights"] == 0
    assert record["errors_moved"] == 18  # one row down leaves zeros: all read as a 0
    json.dumps(record, allow_nan=False)


def test_a_class_that_no_test_image_has_keeps_its_row():
    logits = torch.eye(4)[[0, 1, 3]].view(3, 1, 1, 4)
    record = measure("mine", 0, nn.Flatten(), [], (logits, torch.tensor([0, 1, 3])))
    assert np.array_equal(record["confusion_matrix"], np.diag([1, 1, 0, 1]))


def records_of(alone, distilled):
    """Records of pairs with these errors of 100, teacher first."""
    records = [record_of("teacher", 5)]
    for a, d in zip(alone, distilled):
        records.append(record_of("student alone", a))
        records.append(record_of("student distilled", d))
    return records


def record_of(name, errors):
    return {
        "network": name,
        "seed": 0,
        "weights": 12_345,
        "milliseconds": 1.5,
        "accuracy": 1 - errors / 100,
        "errors": errors,
        "errors_moved": errors + 1,
    }


def printed(records, capsys):
    """What ``print_results`` prints of these records."""
    test_set = torch.eye(6).view(6, 1, 1, 6), torch.tensor([3, 1, 2, 0, 4, 5])
    print_results([nn.Flatten()] * 3, records, test_set)
    return capsys.readouterr().out


def test_one_pair_is_not_judged(capsys):
    text = printed(records_of([50], [40]), capsys)
    assert "by distillation: 10\n" in text and "may be luck" in text
    assert "interval" not in text
    rows = [line.split() for line in text.splitlines() if line.startswith("student")]
    assert rows[0][2:] == ["12,345", "1.5", "50.00%", "50", "51"]
    assert text.count("[0, 1, 2, 3, 4]") == 3 and "[3, 1, 2, 0, 4]" in text


# Half of the interval by hand: t (12.706, 4.303, 3.182 in printed tables) * sd / sqrt(n)
CASES = [
    ([30, 33, 30], [20, 22, 21], 10, 4.303 * 1 / 3**0.5, "helps"),
    ([20, 22, 21], [30, 33, 30], -10, 4.303 * 1 / 3**0.5, "hurts"),
    ([12, 13, 14, 15], [10, 10, 10, 11], 3.25, 3.182 * (11 / 12) ** 0.5 / 2, "helps"),
    ([30, 20], [10, 15], 12.5, 12.706 * 7.5, "no difference is shown"),
    ([30, 20], [25, 15], 5, 0, "no difference is shown"),
]


@pytest.mark.parametrize("alone, distilled, mean, half, verdict", CASES)
def test_several_pairs_are_judged_by_the_interval(
    alone, distilled, mean, half, verdict, capsys
):
    records = [*records_of(alone, distilled), record_of("a third student", 3)]
    saved = errors_saved(records)
    assert saved == [a - d for a, d in zip(alone, distilled)]
    low, high = interval(saved)
    assert (low, high) == pytest.approx((mean - half, mean + half), rel=2e-3)
    text = printed(records, capsys)
    assert f"{low:.1f} to {high:.1f}" in text and f"{verdict}." in text
    assert (
        f"by distillation: {round(mean, 1):g}\n" in text and "with this teacher" in text
    )


def test_four_soft_labels_from_clear_to_doubtful(capsys):
    """They are read right and of four classes; bars and text are the probabilities."""
    sure = [0.999, 0.998, 0.9, 0.89, 0.7, 0.69, 0.5]
    classes = [0, 1, 0, 1, 2, 3, 4]
    p = torch.zeros(7, 6)
    for i, (largest, k) in enumerate(zip(sure, classes)):
        p[i] = (1 - largest) / 5
        p[i, k] = largest
    labels = torch.tensor(classes)
    labels[4] = 5  # read wrong
    images = p.log().view(7, 1, 1, 6)
    figure = kd_mnist.show_soft_labels(nn.Flatten(), images, labels, temperature=2.0)
    pictures, charts = np.reshape(figure.axes, (2, 4))
    titles = [picture.get_title() for picture in pictures]
    assert titles == ["label 0", "label 1", "label 3", "label 4"]  # images 0, 3, 5, 6
    text = capsys.readouterr().out
    assert "label 1   T = 1      1: 0.890   " in text
    root = p[3].sqrt()
    softened = root / root.sum()
    assert f"label 1   T = 2      1: {softened[1]:.3f}   " in text
    assert f"in {2 / 7:.0%} of the images" in text
    heights = [bar.get_height() for bar in charts[1].patches]
    np.testing.assert_allclose(heights, torch.cat([p[3], softened]), rtol=1e-5)


def test_curves_show_every_network_and_a_0():
    records = []
    for name, right in (("teacher", 1.0), ("student alone", 0.981)):
        epochs = [{"epoch": e, "test_accuracy": right} for e in (1, 2)]
        records.append({"network": name, "history": epochs})
    (axes,) = kd_mnist.draw_curves(records, "animals").axes
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == ["teacher", "student alone"] and axes.get_title() == "animals"
    low, high = axes.get_ylim()
    heights = axes.transData.transform([(1, 0.0), (1, 1.4), (1, 1.9), (1, high)])[:, 1]
    _, better, worse, top = (heights - heights[0]) / (heights[-1] - heights[0])
    assert low == 0 and worse - better > 0.05 and top == 1


def test_confusion_matrices_show_counts_and_shade_errors_on_one_scale():
    good, bad = np.diag([20, 20, 20]), np.diag([19, 12, 20])
    bad[0, 1], bad[1, 2] = 1, 8
    names = ["a rather long class name", "dog", "another long class name"]
    records = [
        {"network": "alone", "errors": 9, "confusion_matrix": bad.tolist()},
        {
            "network": "distilled",
            "seed": 3,
            "errors": 0,
            "confusion_matrix": good.tolist(),
        },
    ]
    upper, lower = kd_mnist.draw_confusion(records, names).axes
    shown = {}
    for text in upper.texts:
        column, row = (int(place) for place in text.get_position())
        if text.get_text():
            shown[row, column] = int(text.get_text())
    assert shown == {(0, 0): 19, (0, 1): 1, (1, 1): 12, (1, 2): 8, (2, 2): 20}
    assert upper.get_title() == "alone: 9 errors"
    for axes in (upper, lower):
        assert [tick.get_text() for tick in axes.get_yticklabels()] == names
        assert axes.get_yticklabels()[0].get_rotation() == 0
        assert axes.collections[0].get_clim() == (0, 8)
    colours = upper.collections[0].get_facecolors().reshape(3, 3, 4)
    assert (colours[0, 0] == colours[2, 2]).all()  # the diagonal is not shaded
    assert (colours[1, 2] != colours[0, 1]).any()


def test_one_matrix_of_eight_long_names_turns_them():
    names = ["colorectal adenocarcinoma epithelium"] * 8
    record = {
        "network": "mine",
        "seed": 0,
        "errors": 0,
        "confusion_matrix": np.eye(8, dtype=int),
    }
    (axes,) = kd_mnist.draw_confusion([record], names).axes
    assert axes.get_xticklabels()[0].get_rotation() == 90
    (axes,) = kd_mnist.draw_confusion([record]).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list("01234567")
