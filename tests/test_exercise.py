"""For readers: tests ``my_loss`` of a file ``my_loss.py`` in the folder you are in.

    python -m pytest tests/test_exercise.py

It computes half the cross-entropy and half of what T^2 * KL becomes at a very high T.
"""

import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kd_mnist import DistillationLoss

pytestmark = pytest.mark.skipif(
    not Path("my_loss.py").exists(), reason="there is no my_loss.py in this folder"
)


@pytest.fixture
def my_loss():
    functions = runpy.run_path("my_loss.py")
    assert "my_loss" in functions, "my_loss.py must define my_loss"
    return functions["my_loss"]


@pytest.fixture
def batch():
    """The student's logits, the teacher's logits, and labels of six images."""
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(2, 6, 10, dtype=torch.float64)
    student.requires_grad_()
    teacher.requires_grad_()
    return student, teacher, torch.arange(6)


def test_it_returns_one_number(my_loss, batch):
    loss = my_loss(*batch)
    assert torch.is_tensor(loss) and loss.shape == (), (
        "return one number: loss.shape ()"
    )


def test_only_the_hard_term_is_left_if_student_and_teacher_agree(my_loss, batch):
    student, _, labels = batch
    loss = my_loss(student, student.detach().clone(), labels)
    half = F.cross_entropy(student, labels) / 2
    assert loss.item() == pytest.approx(half.item()), "look at the cross-entropy"


def test_a_number_added_to_all_logits_of_an_image_changes_nothing(my_loss, batch):
    student, teacher, labels = batch
    more = torch.arange(6.0, dtype=torch.float64)[:, None]
    message = "an image's logits count only as differences from something"
    assert torch.allclose(my_loss(student, teacher + more, labels), my_loss(*batch)), (
        message
    )


def test_twice_the_images_give_the_same_mean(my_loss, batch):
    twice = [torch.cat([part, part]) for part in batch]
    message = "average over the images, and only over them"
    assert torch.allclose(my_loss(*twice), my_loss(*batch)), message


def test_its_value_is_that_of_a_very_high_temperature(my_loss, batch):
    loss, expected = my_loss(*batch).item(), DistillationLoss(1000, 0.5)(*batch).item()
    ratio = f"yours {loss:.4f}, at T = 1000 {expected:.4f}: the number in front?"
    assert loss == pytest.approx(expected, rel=0.01), ratio


def test_its_gradient_is_that_of_a_very_high_temperature(my_loss, batch):
    student = batch[0]
    my_loss(*batch).backward()
    assert student.grad is not None, "no gradient reaches the student"
    mine = student.grad.clone()
    student.grad = None
    DistillationLoss(1000, 0.5)(*batch).backward()
    difference = (mine - student.grad).norm() / student.grad.norm()
    assert difference < 0.01, f"the gradient is off by {difference:.0%}"


def test_no_gradient_reaches_the_teacher(my_loss, batch):
    _, teacher, _ = batch
    my_loss(*batch).backward()
    assert teacher.grad is None, "the teacher must not learn: see DistillationLoss"
