"""The experiment, what it measures and compares, on cases by hand; and its figures."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import kd_mnist
from kd_mnist import Settings, TeacherCNN, measure, run_experiment


def test_the_defaults_are_those_of_the_classes():
    loss, settings = kd_mnist.DistillationLoss(), Settings()
    assert settings.temperature == loss.temperature == 2.0
    assert settings.alpha == loss.alpha == 0.5
    assert str(TeacherCNN()) == str(TeacherCNN(settings.teacher_channels))


BAD = {"alpha": 2, "runs": 0, "student_epochs": 0, "lr": math.nan, "teacher_shift": 5}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_named(name):
    with pytest.raises(ValueError, match=f"^{name} must be .*"):
        Settings(**{name: BAD[name]})


def test_measure_against_a_case_by_hand():
    """A "network" of no layers: its images are the logits of ten digits, twice."""
    labels = torch.arange(10).repeat(2)
    logits = torch.full((20, 10), -50.0)
    logits[range(20), labels] = 0.0  # sure and right ...
    logits[0] = torch.log(
        torch.tensor([0.2, 0.5, 0.3] + [1e-30] * 7)
    )  # ... but the first
    test_set = logits.view(20, 1, 1, 10), labels
    record = measure("mine", 7, nn.Flatten(), ["a history"], test_set, -logits)
    assert record["network"] == "mine" and record["seed"] == 7
    assert record["errors"] == 1 and record["accuracy"] == pytest.approx(0.95)
    assert record["nll"] == pytest.approx(-math.log(0.2) / 20, rel=1e-6)
    assert record["history"] == ["a history"] and record["milliseconds"] > 0
    assert record["confusion_matrix"][0] == [1, 1] + [0] * 8
    assert record["precision"][:3] == [1, pytest.approx(2 / 3), 1]
    assert record["recall"][:2] == [0.5, 1]
    assert record["f1"][:2] == [pytest.approx(2 / 3), pytest.approx(0.8)]
    assert record["agreement"] == 0  # the smallest logit is the largest of -logits
    assert record["weights"] == record["multiply_adds"] == 0
    assert record["errors_moved"] == 18  # one row down leaves zeros: all read as a 0
    json.dumps(record, allow_nan=False)


def test_weights_and_multiply_adds_by_the_book():
    test_set = torch.rand(20, 1, 28, 28), torch.arange(10).repeat(2)
    convolutions = 28**2 * 16 * 9 + 14**2 * 32 * 16 * 9
    record = measure("teacher", 0, TeacherCNN(), [], test_set, torch.zeros(20, 10))
    assert record["weights"] == 20_490
    assert record["multiply_adds"] == convolutions + 32 * 7**2 * 10


class Fixed(nn.Module):
    """A "network" that is right where the first pixel of the image is in ``numbers``."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = torch.tensor(sorted(numbers))

    def forward(self, images):
        right = torch.isin(images[:, 0, 0, 0], self.numbers).float()
        return torch.stack([right, 1 - right], 1)


def students(alone, distilled):
    """Networks of pairs, right in the first ``n`` of 100 images, and what they are given."""
    networks = {("teacher", 0): Fixed(range(95))}
    for seed, (a, d) in enumerate(zip(alone, distilled)):
        networks["student alone", seed] = Fixed(range(a))
        networks["student distilled", seed] = Fixed(range(10, d + 10))
    test_set = torch.arange(100.0).view(100, 1, 1, 1), torch.zeros(100).long()
    return networks, test_set


def test_one_pair_is_compared_image_by_image_and_not_judged():
    gain = kd_mnist.compare(*students([50], [60]))
    assert gain["errors_saved"] == 10 and gain["errors_behind_teacher"] == 45
    assert gain["only_alone"] == 10 and gain["only_distilled"] == 20
    assert gain["pairs"] == 1 and gain["interval"] is None
    text = kd_mnist.gain_text(gain)
    assert "saves 10 errors" in text and "may be luck" in text
    assert "45 more errors than the teacher" in text
    worse = kd_mnist.gain_text(kd_mnist.compare(*students([95], [60])))
    assert "saves -35 errors." in worse
    assert "teacher is no better than the student alone" in worse


# Half of the interval by hand: t (12.706, 4.303, 3.182 in printed tables) * sd / sqrt(n)
@pytest.mark.parametrize(
    "alone, distilled, mean, half, verdict",
    [
        ([20, 22, 21], [30, 33, 30], 10, 4.303 * 1 / 3**0.5, "helps"),
        ([30, 33, 30], [20, 22, 21], -10, 4.303 * 1 / 3**0.5, "hurts"),
        (
            [10, 10, 10, 11],
            [12, 13, 14, 15],
            3.25,
            3.182 * (11 / 12) ** 0.5 / 2,
            "helps",
        ),
        ([10, 15], [30, 20], 12.5, 12.706 * 7.5, "no difference is shown"),
    ],
)
def test_several_pairs_are_judged_by_the_interval(
    alone, distilled, mean, half, verdict
):
    networks, test_set = students(alone, distilled)
    networks["a third student", 0] = Fixed(range(3))  # does not count
    gain = kd_mnist.compare(networks, test_set)
    assert gain["errors_saved"] == mean
    assert gain["interval"] == pytest.approx([mean - half, mean + half], rel=2e-3)
    text = kd_mnist.gain_text(gain)
    low, high = gain["interval"]
    assert f"{low:.1f} to {high:.1f}" in text and f"{verdict}." in text
    assert f"saves {round(mean, 1):g} errors." in text


def test_the_four_images_go_from_clear_to_doubtful_are_right_and_of_four_classes():
    sure = [0.999, 0.998, 0.9, 0.89, 0.7, 0.69, 0.5]
    classes = [0, 1, 0, 1, 2, 3, 4]
    p = torch.zeros(7, 6)
    for i, (largest, k) in enumerate(zip(sure, classes)):
        p[i] = (1 - largest) / 5
        p[i, k] = largest
    labels = torch.tensor(classes)
    labels[4] = 5  # read wrong
    assert kd_mnist.clear_to_doubtful(p.log(), labels) == [0, 3, 5, 6]


def test_printed_soft_labels_are_the_teachers_probabilities(capsys):
    p = torch.tensor(
        [[0.64, 0.32, 0.04], [0.1, 0.8, 0.1], [0.3, 0.2, 0.5], [0.94, 0.03, 0.03]]
    )
    kd_mnist.print_soft_labels(p.log(), torch.tensor([0, 1, 2, 0]), temperature=2.0)
    shown = capsys.readouterr().out
    assert "for 25% of the images" in shown
    assert "label 0   T = 1      0: 0.640   1: 0.320   2: 0.040" in shown
    root = torch.tensor([0.64, 0.32, 0.04]).sqrt()
    assert f"label 0   T = 2      0: {root[0] / root.sum():.3f}" in shown


@pytest.mark.parametrize("classes", [2, 3])
def test_other_data_and_networks_of_ones_own(classes, capsys, tmp_path, monkeypatch):
    """Colour images of another size, the last class absent from the test set."""
    torch.manual_seed(0)
    images, labels = torch.rand(60, 3, 8, 6), torch.arange(60) % classes
    images += labels[:, None, None, None]
    seen = labels[:40] < classes - 1
    test_set = images[:40][seen], labels[:40][seen]
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(144, classes))
    student = nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.Linear(5, classes))
    first = student[1].weight.clone()
    settings = Settings(runs=2, batch_size=20, student_epochs=3, teacher_epochs=2)
    monkeypatch.chdir(tmp_path)
    own = {"teacher": teacher, "new_student": lambda: student}
    for options in ({}, own):
        networks, records = run_experiment(
            (images, labels), test_set, settings, **options
        )
        assert len(networks) == len(records) == 5
        assert np.array(records[4]["confusion_matrix"]).shape == (classes, classes)
        assert kd_mnist.compare(networks, test_set)["pairs"] == 2
        table = kd_mnist.results_table(records)
        assert max(map(len, table.splitlines())) <= 80
        figure = kd_mnist.draw_curves(records, "animals")
        assert figure.axes[0].get_yscale() == "log"
        named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert named == ["teacher", "student alone", "student distilled"]
    assert networks["teacher", 0] is teacher and records[0]["history"] == []
    assert torch.equal(student[1].weight, first)  # handed out twice, it is copied
    printed = capsys.readouterr().out
    assert printed.count("\nteacher\n") == 1  # only one was trained
    assert not list(tmp_path.iterdir())


def test_what_cannot_work_is_found_before_the_teacher_is_trained(tiny, capsys):
    for student in (nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(784, 9))):
        with pytest.raises(ValueError, match="logits|outputs"):
            run_experiment(*tiny, new_student=lambda student=student: student)
    with pytest.raises(ValueError, match="a function that makes a network"):
        run_experiment(*tiny, new_student=kd_mnist.StudentMLP())
    with pytest.raises(ValueError, match=r"must be an nn\.Module, not list"):
        run_experiment(*tiny, teacher=[TeacherCNN()])
    assert "epoch" not in capsys.readouterr().out


def test_an_own_loss_is_used_for_the_distilled_student_only(tiny):
    calls = []

    def own_loss(logits, teacher_logits, labels):
        calls.append(teacher_logits)
        return nn.functional.mse_loss(logits, teacher_logits)

    settings = Settings(batch_size=50, student_epochs=2)
    run_experiment(*tiny, settings, TeacherCNN(), distillation_loss=own_loss)
    assert len(calls) == 1 + 2 * 3  # tried once before the teacher is trained


def test_soft_labels_figure_shows_probabilities_and_names():
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 4], [3, 0, 0], [0, 9, 0]])
    labels = torch.tensor([0, 2, 0, 1])
    names = ["cat", "dog", "bird"]
    images = torch.rand(4, 3, 8, 8)
    figure = kd_mnist.draw_soft_labels(images, labels, logits, 4.0, "animals", names)
    pictures, cold, warm = np.reshape(figure.axes, (3, 4))
    i = kd_mnist.clear_to_doubtful(logits, labels)[0]
    for axes, temperature in ((cold[0], 1), (warm[0], 4)):
        heights = [bar.get_height() for bar in axes.patches]
        expected = (logits[i] / temperature).softmax(0)
        np.testing.assert_allclose(heights, expected, rtol=1e-5)
        ticks = [tick.get_text() for tick in axes.get_xticklabels()]
        assert ticks == names
        assert axes.get_xticklabels()[0].get_rotation() == 90  # long names fit
    assert pictures[0].get_title() == f"label {names[labels[i]]}"
    assert warm[0].get_ylabel() == "T = 4"


def test_confusion_matrices_show_counts_and_shade_errors_on_one_scale():
    good, bad = np.diag([20, 20, 20]), np.diag([19, 12, 20])
    bad[0, 1], bad[1, 2] = 1, 8
    names = ["cat", "dog", "bird"]
    matrices = {"alone": bad.tolist(), "distilled": good.tolist()}
    figure = kd_mnist.draw_confusion(matrices, names)
    upper, lower = figure.axes
    shown = {}
    for text in upper.texts:
        column, row = (int(place) for place in text.get_position())
        if text.get_text():
            shown[row, column] = int(text.get_text())
    assert shown == {(0, 0): 19, (0, 1): 1, (1, 1): 12, (1, 2): 8, (2, 2): 20}
    assert (upper.get_title(), lower.get_title()) == ("alone", "distilled")
    for axes in (upper, lower):
        assert [tick.get_text() for tick in axes.get_yticklabels()] == names
        assert axes.collections[0].get_clim() == (0, 8)
    colours = upper.collections[0].get_facecolors().reshape(3, 3, 4)
    assert (colours[0, 0] == colours[2, 2]).all()  # the diagonal is not shaded
    assert (colours[1, 2] != colours[0, 1]).any()


def test_a_matrix_of_many_classes_has_few_ticks_and_no_numbers():
    (axes,) = kd_mnist.draw_confusion({"a hundred": np.eye(100, dtype=int)}).axes
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert len(axes.texts) == 0 and ticks[:2] == ["0", "5"] and len(ticks) == 20
