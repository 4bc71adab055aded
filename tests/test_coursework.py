"""The shortest useful tests of a distillation script: a pattern for coursework."""

import pytest
import torch
import torch.nn.functional as F

from kd_mnist import DistillationLoss, StudentMLP, TeacherCNN, predict, train


@pytest.mark.parametrize("network", [TeacherCNN, StudentMLP])
def test_a_network_gives_ten_logits_for_each_image(network):
    images = torch.rand(7, 1, 28, 28)
    assert network()(images).shape == (7, 10)


def test_alpha_0_is_training_alone():
    student, teacher = torch.randn(7, 10), torch.randn(7, 10)
    labels = torch.arange(7)
    loss = DistillationLoss(temperature=3.0, alpha=0.0)(student, teacher, labels)
    assert loss == F.cross_entropy(student, labels)


def test_alpha_1_ignores_the_labels_and_is_0_for_a_perfect_imitation():
    loss = DistillationLoss(temperature=3.0, alpha=1.0)
    student, teacher = torch.randn(7, 10), torch.randn(7, 10)
    labels = torch.arange(7)
    assert loss(student, teacher, labels) == loss(student, teacher, labels + 1)
    assert loss(teacher, teacher, labels).abs() < 1e-6
    assert loss(student, teacher, labels) > 0.01


def test_a_tiny_run_from_end_to_end(tiny):
    train_set, test_set = tiny
    torch.manual_seed(0)
    teacher, student = TeacherCNN(), StudentMLP()
    train(teacher, train_set, test_set, epochs=10, batch_size=32)
    teacher_logits = predict(teacher, train_set[0])
    history = train(
        student,
        train_set,
        test_set,
        epochs=10,
        batch_size=32,
        teacher_logits=teacher_logits,
    )
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["test_accuracy"] > 0.6
