"""The measurements against cases worked out by hand, and the omitted digits."""

import math

import numpy as np
import pytest
import torch

import kd_mnist


def test_evaluate_against_a_case_by_hand():
    labels = torch.arange(10).repeat(2)
    logits = torch.full((20, 10), -50.0)
    logits[range(20), labels] = 0.0  # sure and right ...
    logits[0] = torch.log(torch.tensor([0.2, 0.5, 0.3] + [1e-30] * 7))  # ... but for the first
    teacher = torch.nn.functional.one_hot(labels, 10).float()
    teacher[1] = teacher[2]
    measured = kd_mnist.evaluate(logits, labels, teacher)
    assert measured["errors"] == 1 and measured["accuracy"] == 0.95
    assert measured["nll"] == pytest.approx(-math.log(0.2) / 20, rel=1e-6)
    assert measured["agreement"] == pytest.approx(18 / 20)
    assert measured["confidence"] == pytest.approx((19 + 0.5) / 20)
    assert measured["top3_accuracy"] == 1.0
    assert (
        measured["report"]["0"]["recall"] == 0.5 and measured["report"]["1"]["precision"] == 2 / 3
    )
    assert 0.99 < measured["auc"] <= 1


@pytest.mark.parametrize("a, b, p", [(0, 0, 1), (5, 0, 2 / 32), (10, 2, 158 / 4096), (3, 3, 1)])
def test_mcnemar_is_the_binomial_test(a, b, p):
    wrong_a = torch.tensor([True] * a + [False] * b + [True, False])
    wrong_b = torch.tensor([False] * a + [True] * b + [True, False])
    assert kd_mnist.mcnemar(wrong_a, wrong_b) == pytest.approx(p)
    assert kd_mnist.mcnemar(wrong_b, wrong_a) == pytest.approx(p)


# Two-sided 95 % points of Student's t, from a printed table, by degrees of freedom.
@pytest.mark.parametrize("df, t", [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042)])
def test_interval_uses_students_t(df, t):
    values = np.random.default_rng(df).normal(size=df + 1)
    mean, half = kd_mnist.confidence_interval(values)
    assert mean == pytest.approx(values.mean())
    assert half == pytest.approx(t * values.std(ddof=1) / math.sqrt(df + 1), rel=4e-4)


def test_interval_by_hand():
    mean, half = kd_mnist.confidence_interval([1.0, 2.0, 3.0])  # sd 1, t(2) = 4.303
    assert (mean, half) == (2.0, pytest.approx(4.303 / math.sqrt(3), rel=1e-3))


def record(errors):
    return {"errors": errors, "accuracy": 1 - errors / 100}


@pytest.mark.parametrize(
    "alone, distilled, verdict",
    [
        ([20, 22, 21], [10, 11, 12], "better"),
        ([10, 11, 12], [20, 22, 21], "worse"),
        ([20, 10, 15], [10, 20, 16], "no difference shown"),
        ([11, 12, 13], [10, 10, 10], "no difference shown"),  # 2 points +- 2.48
        ([12, 13, 14, 15], [10, 10, 10, 11], "better"),  # 3.25 points +- 1.52
    ],
)
def test_the_verdict_over_runs_is_that_of_the_paired_interval(alone, distilled, verdict):
    wrong = torch.zeros(100, dtype=torch.bool)
    gain = kd_mnist.compare([*map(record, alone)], [*map(record, distilled)], wrong, wrong)
    assert gain["verdict"] == verdict
    low, high = gain["interval"]
    assert low < gain["points"] < high and (low > 0 or high < 0) == (verdict in ("better", "worse"))
    assert gain["errors"] == pytest.approx(gain["points"])  # of 100 images


@pytest.mark.parametrize("fewer, verdict", [(6, "better"), (5, "no difference shown")])
def test_the_verdict_of_one_run_is_that_of_the_exact_test(fewer, verdict):
    wrong = torch.zeros(100, dtype=torch.bool)
    wrong_alone = torch.arange(100) < fewer
    gain = kd_mnist.compare([record(fewer)], [record(0)], wrong_alone, wrong)
    assert gain["verdict"] == verdict and gain["p_value"] == 2 * 0.5**fewer
    assert gain["interval"] is None


def test_average_goes_through_nested_records():
    a = {"x": 1.0, "n": 3, "h": [{"l": 1.0}, {"l": 2.0}], "none": None}
    b = {"x": 2.0, "n": 3, "h": [{"l": 3.0}, {"l": 4.0}], "none": None}
    expected = {"x": 1.5, "n": 3, "h": [{"l": 2.0}, {"l": 3.0}], "none": None}
    assert kd_mnist.average([a, b]) == expected
    assert kd_mnist.average([a]) == a


@pytest.mark.parametrize("omitted", [[3], [3, 5], [0, 1, 2, 3, 4, 5, 6, 9]])
def test_correction_matches_the_share_on_unlabelled_images(omitted):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5000) % 10
    logits = torch.randn(5000, 10, generator=generator)
    logits[torch.arange(5000), labels] += 6
    shifted = logits.clone()
    shifted[:, omitted] -= 8  # what never being shown a digit does to its logit
    assert kd_mnist.accuracy(shifted, labels) < 1 - len(omitted) / 12
    corrected, bias = kd_mnist.match_omitted(shifted, shifted, omitted)
    shares = torch.bincount(corrected.argmax(1), minlength=10) / 5000
    assert shares[omitted].tolist() == pytest.approx([0.1] * len(omitted), abs=0.001)
    assert min(bias) > 3
    assert kd_mnist.accuracy(corrected, labels) > 0.97
    kept = [digit for digit in range(10) if digit not in omitted]
    assert torch.equal(corrected[:, kept], shifted[:, kept])


def test_omitted_digits_reach_no_student_and_correction_reads_only_images(tiny, monkeypatch):
    """Both students' training sets lack the digits; the correction reads no test image or label."""
    (images, labels), (test_images, test_labels) = tiny
    arguments = ["--omit-digits", "3", "7", "--student-epochs", "1", "--device", "cpu"]
    args = kd_mnist.build_parser().parse_args(arguments)
    seen = []

    def watching_fit(model, train_set, **options):
        seen.append((train_set, options["teacher_logits"]))
        return []

    teacher_logits = torch.randn(len(labels), 10)
    kinds = {"alone": None, "distilled": teacher_logits}
    test_logits = torch.randn(len(test_labels), 10)
    records, _ = kd_mnist.learn(args, watching_fit, kinds, *tiny, test_logits)
    kept = (labels != 3) & (labels != 7)
    assert len(seen) == 2
    for (shown, shown_labels), soft in seen:
        assert torch.equal(shown, images[kept]) and torch.equal(shown_labels, labels[kept])
        assert soft is None or torch.equal(soft, teacher_logits[kept])
    other_labels = (labels.clone(), (test_labels + 1) % 10)
    other_labels[0][~kept] = 10 - other_labels[0][~kept]  # 3 is now 7 and 7 is 3
    changed = (images, other_labels[0]), (test_images.flip(3), other_labels[1])
    again, _ = kd_mnist.learn(args, watching_fit, kinds, *changed, test_logits)
    for kind in kinds:
        assert records[kind][0]["omitted"]["bias"] == again[kind][0]["omitted"]["bias"]
