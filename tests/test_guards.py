"""Mistakes that would be silent are one clear line, before any work."""

import pytest
import torch
from test_method import Watch

import kd_mnist
from kd_mnist import DistillationLoss, train

IMAGES, LABELS = torch.rand(20, 1, 28, 28), torch.arange(10).repeat(2)
DATA = IMAGES, LABELS
LOGITS = torch.randn(20, 10)
P = LOGITS.softmax(1)
FEWER = IMAGES, LABELS[:-1]
BYTES = 255 * IMAGES, LABELS


def call_train(train_set=DATA, test_set=DATA, epochs=4, **options):
    train(Watch(), train_set, test_set, epochs=epochs, **options)


def call_loss(student_shape, teacher_shape):
    labels = torch.zeros(student_shape[0]).long()
    DistillationLoss()(torch.zeros(student_shape), torch.zeros(teacher_shape), labels)


def other_classes():
    kd_mnist.train_pairs(Watch(9), DATA, DATA, new_student=Watch)


# A mistake, the call that makes it, and the words that must tell what is wrong.
GUARDS = {
    "fewer labels": (lambda: call_train(FEWER), "20 images, but 19 labels"),
    "fewer test labels": (lambda: call_train(DATA, FEWER), "20 images, but 19"),
    "0 to 255": (lambda: call_train(BYTES), "divide them by 255"),
    "test images to 255": (lambda: call_train(DATA, BYTES), "divide them by 255"),
    "one step": (lambda: call_train(epochs=1), "4 steps"),
    "fewer logits": (lambda: call_train(teacher_logits=LOGITS[1:]), "19 logits"),
    "log of 0": (lambda: call_train(teacher_logits=(P > 1).log()), "finite"),
    "softmax": (lambda: call_train(teacher_logits=P), "probabilities"),
    "halves": (lambda: call_train(teacher_logits=P.half()), "probabilities"),
    "rounded": (lambda: call_train(teacher_logits=P.round(decimals=3)), "probabil"),
    "moved": (
        lambda: call_train(teacher_logits=LOGITS, transform=kd_mnist.random_shift),
        "no transform",
    ),
    "one row": (lambda: call_loss((4, 10), (1, 10)), "the same shape"),
    "pixels": (lambda: call_loss((4, 10, 2, 2), (4, 10, 2, 2)), "a row for each"),
    "one class": (lambda: call_loss((4, 1), (4, 1)), r"\(0, z\)"),
    "T = 0": (lambda: DistillationLoss(0.0, 0.5), "temperature must be"),
    "T is NaN": (lambda: DistillationLoss(float("nan"), 0.5), "temperature must be"),
    "T too high": (lambda: DistillationLoss(1e6, 0.5), "temperature must be"),
    "alpha < 0": (lambda: DistillationLoss(2.0, -0.1), "alpha must be"),
    "alpha > 1": (lambda: DistillationLoss(2.0, 1.1), "alpha must be"),
    "other classes": (other_classes, "10 classes, not those of the teacher"),
    "Digits": (lambda: kd_mnist.load_data("Digits"), '"auto", "mnist" or "digits"'),
}


@pytest.mark.parametrize("name", GUARDS)
def test_a_silent_mistake_is_one_line(name, capsys):
    mistake, words = GUARDS[name]
    with pytest.raises(ValueError, match=words) as error:
        mistake()
    assert "\n" not in str(error.value)
    assert "epoch" not in capsys.readouterr().out  # nothing was trained


def test_what_is_right_passes():
    normalised = ((IMAGES - 0.13) / 0.31, LABELS)
    call_train(normalised, normalised, teacher_logits=P.log())
    call_train(epochs=2, batch_size=10, teacher_logits=2 * P)  # sums of 2
    DistillationLoss(0.01, 0.0)
    DistillationLoss(1000, 1)


def test_a_loss_that_is_not_finite_stops_the_run(tiny):
    with pytest.raises(FloatingPointError, match="epoch 1: .*lower lr"):
        train(Watch(), *tiny, epochs=2, lr=1e38)
