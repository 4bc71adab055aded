"""Settings, measurements and comparisons against cases by hand; other data; what figures hold."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import kd_mnist
from kd_mnist import Settings, Trained, run_experiment


def test_the_defaults_are_those_of_the_classes():
    loss, settings = kd_mnist.DistillationLoss(), Settings()
    assert (settings.temperature, settings.alpha) == (loss.temperature, loss.alpha) == (2.0, 0.5)
    assert str(kd_mnist.TeacherCNN()) == str(kd_mnist.TeacherCNN(settings.teacher_channels))
    assert str(kd_mnist.StudentMLP()) == str(kd_mnist.StudentMLP((settings.student_hidden,)))


BAD = {"temperature": "warm", "runs": 2.5, "teacher_channels": (16, 32), "student_hidden": 0}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_named_in_a_notebook_too(name):
    with pytest.raises(ValueError, match=f"^{name} must be .*"):
        Settings(**{name: BAD[name]})


def test_measure_against_a_case_by_hand():
    """Two "networks" of no layers: their images are the logits of ten digits, twice."""
    labels = torch.arange(10).repeat(2)
    logits = torch.full((20, 10), -50.0)
    logits[range(20), labels] = 0.0  # sure and right ...
    logits[0] = torch.log(torch.tensor([0.2, 0.5, 0.3] + [1e-30] * 7))  # ... but for the first
    images = logits.view(20, 1, 1, 10)
    backwards = nn.Sequential(nn.Flatten(), nn.Softmin(1))  # the smallest becomes the largest
    models = [Trained(nn.Flatten(), ["a history"], logits)]
    models.append(Trained(backwards, [], backwards(images)))
    summary = kd_mnist.summarize(models, (images, labels))
    first, second = summary["runs"]
    assert first["errors"] == 1 and first["accuracy"] == pytest.approx(0.95)
    assert first["nll"] == pytest.approx(-math.log(0.2) / 20, rel=1e-6)
    assert first["history"] == ["a history"]
    assert first["confusion_matrix"][0] == [1, 1] + [0] * 8
    assert first["parameters"] == first["multiply_adds"] == 0
    for key in ("errors", "accuracy", "nll"):
        values = [first[key], second[key]]
        assert summary["mean"][key] == pytest.approx(np.mean(values))
        assert summary["sd"][key] == pytest.approx(np.std(values, ddof=1))
    assert kd_mnist.summarize(models[:1], (images, labels))["sd"]["errors"] is None


def test_shift_errors_are_the_mean_of_eight_directions():
    """A "network" that is right where the only pixel of ink has not moved left or up too far."""

    class InkIsLowAndRight(nn.Module):
        def forward(self, images):
            inside = images[:, 0, 3:, 3:].sum((1, 2))
            return torch.stack([1 - inside, inside], 1)

    images = torch.zeros(6, 1, 9, 9)
    images[:, :, 3, 3] = 1
    test_set = images, torch.ones(6, dtype=torch.int64)
    found = kd_mnist.shift_errors(InkIsLowAndRight(), test_set)
    assert found == pytest.approx([0, *[62.5] * 4])  # five of eight directions lead up or left


def students(*wrong):
    """``Trained`` students of two classes, wrong where a row of booleans says so; all labels 0."""
    return [Trained(None, [], torch.stack([~row, row], 1).float()) for row in wrong]


# p by hand: twice the tail of a fair coin's binomial distribution, at most 1
@pytest.mark.parametrize(
    "a, b, p", [(0, 0, 1), (5, 0, 2 / 32), (6, 0, 2 / 64), (0, 6, 2 / 64), (10, 2, 158 / 4096)]
)
def test_one_pair_is_judged_by_the_exact_mcnemar_test(a, b, p):
    both = [True, False] * 4  # images that tell nothing about a difference
    alone = students(torch.tensor([True] * a + [False] * b + both))
    distilled = students(torch.tensor([False] * a + [True] * b + both))
    gain = kd_mnist.compare(alone, distilled, torch.zeros(a + b + 8, dtype=torch.int64))
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
        ([30, 20], [27, 17], 3, 0, "no difference shown"),
    ],
)
def test_several_pairs_are_judged_by_the_interval_of_their_mean(
    alone, distilled, mean, half, verdict
):
    both = [students(*[torch.arange(100) < n for n in errors]) for errors in (alone, distilled)]
    gain = kd_mnist.compare(*both, torch.zeros(100, dtype=torch.int64))
    assert gain["verdict"] == verdict and gain["errors"] == pytest.approx(mean)
    assert gain["points"] == pytest.approx(mean)
    assert gain["interval"] == pytest.approx([mean - half, mean + half], rel=2e-3, abs=0.02)


@pytest.mark.parametrize("classes", [2, 3])
def test_an_experiment_on_other_data_with_networks_of_ones_own(
    classes, capsys, tmp_path, monkeypatch
):
    """Colour images of another size, the last class absent from the test set."""
    torch.manual_seed(0)
    images, labels = torch.rand(60, 3, 8, 6), torch.arange(60) % classes
    images += labels[:, None, None, None]
    seen = labels[:40] < classes - 1
    test_set = images[:40][seen], labels[:40][seen]
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(144, classes))
    settings = Settings(runs=2, batch_size=20, student_epochs=3, teacher_epochs=2)
    made, lines = [], []

    def new_student():
        made.append(nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.Linear(5, classes)))
        return made[-1]

    monkeypatch.chdir(tmp_path)
    for options in ({}, {"teacher": teacher, "new_student": new_student}):
        lines.clear()
        experiment = run_experiment((images, labels), test_set, settings, **options)
        assert experiment.teacher.test_logits.shape == (len(test_set[1]), classes)
        runs = experiment.results["student_distilled"]["runs"]
        assert np.array(runs[0]["confusion_matrix"]).shape == (classes, classes)
        json.dumps([experiment.results, experiment.gain], allow_nan=False)
        text = kd_mnist.results_table(experiment.results, experiment.gain)
        assert (
            "student distilled" in text
            and "2 pairs" in text
            and max(map(len, text.splitlines())) <= 80
        )
        assert len(kd_mnist.results_table({"mine": experiment.results["teacher"]}).split("\n")) == 2
        names = ["cat", "dog", "a bird"][:classes]
        figures = kd_mnist.draw_figures(experiment, test_set, "animals", names)
        ticks = figures["confusion_matrix"].axes[0].get_yticklabels()
        assert [tick.get_text() for tick in ticks] == names
        titles = [figure.axes[0].get_title() for figure in figures.values()]
        assert all("animals" in title for title in titles)
    assert experiment.teacher.model is teacher and experiment.teacher.history == []
    assert len(made) == 4 and str(experiment.alone[1].model) == str(made[2])
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
    run_experiment((images, labels), test_set, settings, progress=lines.append)
    assert lines[0].strip() == "Teacher" and lines[-1].startswith("  epoch 3/3")


def test_confusion_matrix_shows_every_count_and_colours_the_errors():
    labels = torch.arange(9).repeat(20)  # no nines
    predicted = labels.clone()
    predicted[:3], predicted[3] = 5, 8  # images of 0, 1, 2, 3: three are called 5, one 8
    logits = nn.functional.one_hot(predicted, 10)
    figure = kd_mnist.draw_confusion(labels, logits, "some title", list("abcdefghij"))
    (axes,), shown = figure.axes, {}
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        if text.get_text():
            shown[row, column] = int(text.get_text())
    expected = {(digit, digit): 19 if digit < 4 else 20 for digit in range(9)}
    assert shown == expected | {(0, 5): 1, (1, 5): 1, (2, 5): 1, (3, 8): 1}
    assert axes.get_xlabel() == "predicted" and axes.get_ylabel() == "true"
    assert axes.get_title() == "some title: 4 errors in 180"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list("abcdefghij")
    colours = axes.collections[0].get_facecolors().reshape(10, 10, 4)
    assert (colours[0, 5] != colours[0, 4]).any()  # an error stands out from none
    assert (colours[0, 0] == colours[0, 4]).all()  # and the diagonal does not


def test_curves_show_mean_and_spread_in_lines_that_differ_in_grey_too():
    curves = {"alone": [[9, 8], [11, 4]], "distilled": [[7, 3], [7, 1]], "teacher": [[1]]}
    figure = kd_mnist.draw_curves(curves, 1, "epoch", "errors", "some title")
    (axes,) = figure.axes
    lines = [line for line in axes.lines if len(line.get_xdata())]
    np.testing.assert_allclose(lines[0].get_ydata(), [10, 6])
    np.testing.assert_allclose(lines[1].get_ydata(), [7, 2])
    np.testing.assert_allclose(lines[2].get_xdata(), [1])
    assert len({line.get_marker() for line in lines}) == 3
    assert len({line.get_color() for line in lines}) == 3
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(10 + 2**0.5)  # one standard deviation
    assert "standard deviation" in axes.get_legend().get_title().get_text()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(curves)
    assert axes.get_title() == "some title"


def test_a_student_that_is_handed_out_twice_is_copied(tiny):
    """So that the distilled one does not go on where the one alone has ended."""
    student, settings = kd_mnist.StudentMLP(), Settings(alpha=0.0, student_epochs=2, batch_size=32)
    gain = run_experiment(*tiny, settings, kd_mnist.TeacherCNN(), lambda: student).gain
    assert gain["errors"] == 0 and gain["p_value"] == 1


def test_a_confusion_matrix_names_each_of_many_classes():
    figure = kd_mnist.draw_confusion(torch.arange(60), torch.eye(60), "sixty")
    assert len(figure.axes[0].get_yticklabels()) == 60
