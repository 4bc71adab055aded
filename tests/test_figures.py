"""The figures: what they hold, and that they come out as pictures of some size."""

import io

import matplotlib.image
import numpy as np
import pytest
import torch

import kd_mnist


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    buffer.seek(0)
    return matplotlib.image.imread(buffer)[..., :3]


@pytest.fixture
def answers():
    labels = torch.arange(10).repeat(20)
    predicted = labels.clone()
    predicted[:3], predicted[3] = 5, 8  # images of 0, 1, 2, 3: three are called 5, one 8
    return labels, predicted


def test_confusion_matrix_shows_every_count_and_colours_the_errors(answers):
    labels, predicted = answers
    figure = kd_mnist.draw_confusion(labels, predicted, "some title")
    (axes,) = figure.axes
    cells = {
        (round(t.get_position()[1] - 0.5), round(t.get_position()[0] - 0.5)): t.get_text()
        for t in axes.texts
    }
    shown = {cell: int(text) for cell, text in cells.items() if text}
    expected = {(d, d): 19 if d < 4 else 20 for d in range(10)}
    assert shown == expected | {(0, 5): 1, (1, 5): 1, (2, 5): 1, (3, 8): 1}
    assert axes.get_xlabel() == "predicted digit" and axes.get_ylabel() == "true digit"
    assert axes.get_title() == "some title"
    errors, diagonal = axes.collections
    red, green = errors.get_facecolors(), diagonal.get_facecolors()
    assert len(np.unique(red.round(3), axis=0)) >= 2  # an error stands out from none
    assert len(np.unique(green[green[:, 3] > 0].round(3), axis=0)) == 1  # the diagonal does not
    picture = pixels(figure)
    assert picture.shape == (600, 700, 3) and picture.std() > 0.05


def history(*accuracies):
    return [
        dict(epoch=i, loss=1 / i, test_accuracy=a, seconds=0.1) for i, a in enumerate(accuracies, 1)
    ]


def test_curves_show_mean_and_spread_and_the_teacher():
    students = {
        "student alone": [history(0.90, 0.92), history(0.92, 0.96)],
        "student distilled": [history(0.91, 0.95), history(0.93, 0.97)],
    }
    figure = kd_mnist.draw_curves(history(0.97, 0.99), students, "some title")
    loss, accuracy = figure.axes
    alone, distilled, teacher = accuracy.lines
    np.testing.assert_allclose(alone.get_ydata(), [91, 94])
    np.testing.assert_allclose(distilled.get_ydata(), [92, 96])
    np.testing.assert_allclose(teacher.get_ydata(), [99, 99])
    band = accuracy.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(91 - 2**0.5) and band.max() == pytest.approx(94 + 8**0.5)
    assert len(loss.lines) == 2
    legend = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert legend == ["student alone", "student distilled", "teacher (99.00 %)"]
    picture = pixels(figure)
    assert picture.shape == (400, 1000, 3) and picture.std() > 0.05


def test_soft_labels_show_the_softened_probabilities():
    torch.manual_seed(0)
    images, logits = torch.rand(3, 1, 28, 28), 3 * torch.randn(3, 10)
    answers = {"true": torch.tensor([1, 2, 3]), "alone": torch.tensor([1, 7, 3])}
    figure = kd_mnist.draw_soft_labels(images, logits, answers, 4.0, "some title")
    for i in range(3):
        picture, hard, soft = figure.axes[3 * i : 3 * i + 3]
        np.testing.assert_array_equal(picture.images[0].get_array(), images[i, 0])
        assert picture.get_ylabel() == f"true: {i + 1}\nalone: {answers['alone'][i]}"
        for axes, temperature in ((hard, 1), (soft, 4)):
            heights = [bar.get_height() for bar in axes.patches]
            np.testing.assert_allclose(heights, (logits[i] / temperature).softmax(0), rtol=1e-5)
    assert figure.axes[2].get_title() == "teacher's probabilities at T = 4"
    assert pixels(figure).std() > 0.05


def test_instructive_digits_differ_and_the_teacher_is_right():
    torch.manual_seed(0)
    labels = torch.arange(10).repeat(5)
    logits = 3 * torch.randn(50, 10)
    logits[torch.arange(40), labels[:40]] += 6
    chosen = kd_mnist.choose_instructive(logits, labels, 3.0)
    assert len(chosen) == len(set(labels[chosen].tolist())) == 5
    assert (logits[chosen].argmax(1) == labels[chosen]).all()
    only = kd_mnist.choose_instructive(logits, labels, 3.0, digits=[3, 8])
    assert sorted(labels[only].tolist()) == [3, 8]


def test_at_temperature_1_the_chosen_digits_still_differ():
    labels = torch.arange(10).repeat(5)
    chosen = kd_mnist.choose_instructive(10.0 * torch.eye(10)[labels], labels, 1.0)
    assert len(set(labels[chosen].tolist())) == 5
