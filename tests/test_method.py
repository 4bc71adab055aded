"""The method: models, loss, soft labels, the pairing of the students, the training loop."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kd_mnist
from kd_mnist import DistillationLoss, StudentMLP, TeacherCNN, predict, soft_labels


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def numpy_loss(student, teacher, labels, temperature, alpha):
    """The formula of the paper, written without torch."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    divergence = (p * (np.log(p) - np.log(q))).sum(1).mean()
    hard = -np.log(softmax(student)[np.arange(len(labels)), labels]).mean()
    return alpha * temperature**2 * divergence + (1 - alpha) * hard


def same_weights(a, b):
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


@pytest.fixture
def batch():
    """Student's logits, teacher's logits and labels of seven images."""
    random = np.random.default_rng(0)
    student, teacher = torch.from_numpy(3 * random.normal(size=(2, 7, 10)))
    labels = torch.from_numpy(random.integers(0, 10, 7))
    return student.requires_grad_(), teacher.requires_grad_(), labels


@pytest.mark.parametrize("temperature", [0.5, 2.0, 3.5, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7, 1.0])
def test_loss_is_the_formula(batch, temperature, alpha):
    loss = DistillationLoss(temperature, alpha)(*batch)
    expected = numpy_loss(*(part.detach().numpy() for part in batch), temperature, alpha)
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature, alpha", [(3.0, 0.8), (0.7, 1.0), (5.0, 0.0)])
def test_gradient_matches_finite_differences_and_the_closed_form(batch, temperature, alpha):
    student, teacher, labels = batch
    loss = DistillationLoss(temperature, alpha)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher.detach(), labels), student)
    loss(student, teacher, labels).backward()
    s, t = student.detach().numpy(), teacher.detach().numpy()
    soft = temperature * (softmax(s / temperature) - softmax(t / temperature))
    hard = softmax(s) - np.eye(10)[labels]
    np.testing.assert_allclose(student.grad, (alpha * soft + (1 - alpha) * hard) / 7, atol=1e-12)
    assert teacher.grad is None


def test_alpha_weighs_the_teacher(batch):
    student, teacher, labels = batch
    other_labels, other_teacher = (labels + 1) % 10, teacher.detach() + student.detach()
    only_labels, only_teacher = DistillationLoss(3.0, 0.0), DistillationLoss(3.0, 1.0)
    assert only_labels(student, teacher, labels) == F.cross_entropy(student, labels)
    assert only_labels(student, teacher, labels) == only_labels(student, other_teacher, labels)
    assert only_teacher(student, teacher, labels) == only_teacher(student, teacher, other_labels)
    assert only_teacher(student, teacher, labels) != only_teacher(student, other_teacher, labels)
    assert only_teacher(student, student, labels).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "temperature, alpha",
    [(0, 0.5), (-1, 0.5), (math.nan, 0.5), (math.inf, 0.5), (2, -0.1), (2, 1.1), (2, math.nan)],
)
def test_impossible_settings_of_the_loss(temperature, alpha):
    with pytest.raises(ValueError, match="alpha" if temperature == 2 else "temperature"):
        DistillationLoss(temperature, alpha)


@pytest.mark.parametrize(
    "shapes", [[(4, 10), (1, 10), (4,)], [(10,), (10,), (10,)], [(4, 10), (4, 10), (4, 1)]]
)
def test_shapes_that_do_not_match_are_shown(shapes):
    student, teacher, labels = map(torch.zeros, shapes)
    with pytest.raises(ValueError) as error:
        DistillationLoss()(student, teacher, labels.long())
    assert all(str(shape) in str(error.value) for shape in shapes)


@pytest.mark.parametrize(
    "model, weights, multiply_adds",
    [
        (TeacherCNN(), 20_490, 28**2 * 16 * 9 + 14**2 * 32 * 16 * 9 + 32 * 7**2 * 10),
        (StudentMLP(), 101_770, 784 * 128 + 128 * 10),
        (StudentMLP((800, 800)), 1_276_810, 784 * 800 + 800 * 800 + 800 * 10),
    ],
)
def test_weights_and_multiply_adds_by_the_book(model, weights, multiply_adds):
    test_set = torch.rand(20, 1, 28, 28), torch.arange(10).repeat(2)
    measured = kd_mnist.measure([(model, [])], test_set, torch.rand(20, 10))
    assert (measured["parameters"], measured["multiply_adds"]) == (weights, multiply_adds)


def test_pooling_first_is_the_same_function():
    teacher, images = TeacherCNN(), torch.rand(5, 1, 28, 28)
    x = F.max_pool2d(F.relu(teacher.conv1(images)), 2)
    x = F.max_pool2d(F.relu(teacher.conv2(x)), 2)
    assert torch.equal(teacher(images), teacher.linear(x.flatten(1)))


def test_predict_evaluates_without_gradients_and_leaves_the_mode():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Dropout(0.5))
    images = torch.rand(10, 1, 28, 28)
    logits = predict(model, images, batch_size=3)
    assert model.training and not logits.requires_grad
    torch.testing.assert_close(logits, model[1](images.flatten(1)).detach())  # no dropout
    predict(model.eval(), images)
    assert not model.training


def test_bytes_and_floats_are_the_same_images(tiny):
    (images, labels), _ = tiny
    pixels, students = (images * 255).round().to(torch.uint8), []
    assert kd_mnist.to_float(images) is images
    torch.testing.assert_close(kd_mnist.to_float(pixels), images, atol=0.51 / 255, rtol=0)
    for version in (pixels, pixels.float() / 255):
        torch.manual_seed(0)
        students.append(StudentMLP())
        kd_mnist.train(students[-1], (version, labels), (version, labels), epochs=1, jitter=1)
    assert same_weights(*students)


def test_shift_moves_each_image_as_its_number_says_and_brings_in_zeros():
    images, moved = torch.rand(25, 2, 9, 7), []
    for image, number in zip(F.pad(images, [2] * 4), range(25)):
        down, across = divmod(number, 5)
        moved.append(image[:, down : down + 9, across : across + 7])
    assert torch.equal(kd_mnist.shift(images, 2, torch.arange(25)), torch.stack(moved))


@pytest.mark.parametrize("jitter", [0, 1])
def test_alpha_0_gives_the_controls_weights_bit_for_bit(tiny, fit, jitter):
    options = {"teacher_logits": soft_labels(TeacherCNN(), tiny[0][0], jitter), "jitter": jitter}
    control, history = fit(jitter=jitter)
    distilled, again = fit(distillation_loss=DistillationLoss(3.0, 0.0), **options)
    assert same_weights(control, distilled)
    assert [e["test_accuracy"] for e in history] == [e["test_accuracy"] for e in again]


def test_alpha_1_ignores_the_labels(tiny, fit):
    (images, labels), _ = tiny
    options = {"teacher_logits": predict(TeacherCNN(), images)}
    options["distillation_loss"] = DistillationLoss(3.0, 1.0)
    right, _ = fit(**options)
    labels.copy_((labels + 1) % 10)
    wrong, _ = fit(**options)
    assert same_weights(right, wrong) and not same_weights(right, fit()[0])


class Watch(StudentMLP):
    """A student that remembers its first weights and every training batch."""

    def __init__(self):
        super().__init__()
        self.seen, self.first = [], [p.detach().clone() for p in self.parameters()]

    def forward(self, images):
        if self.training:
            self.seen.append(images.clone())
        return super().forward(images)


@pytest.mark.parametrize("jitter", [0, 2])
def test_control_and_distilled_share_weights_and_batches(tiny, monkeypatch, jitter):
    monkeypatch.setattr(kd_mnist, "StudentMLP", Watch)
    options = {"seeds": (5, 6), "epochs": 2, "batch_size": 32, "jitter": jitter}
    teacher_logits = soft_labels(TeacherCNN(), tiny[0][0], jitter)
    (control, _), (other, _) = kd_mnist.train_students(*tiny, None, **options)
    (distilled, _), _ = kd_mnist.train_students(*tiny, teacher_logits, **options)
    assert all(map(torch.equal, control.first, distilled.first))
    assert len(control.seen) == 2 * 5 and all(map(torch.equal, control.seen, distilled.seen))
    assert not same_weights(control, distilled)
    assert not torch.equal(control.first[0], other.first[0])
    assert not torch.equal(control.seen[0], other.seen[0])
    assert not torch.equal(control.seen[0], control.seen[5])  # another order in the second epoch


@pytest.mark.parametrize("jitter", [0, 1])
def test_each_image_meets_its_own_soft_labels_and_label(tiny, jitter):
    """The loss is given, for each image of each batch, what the teacher says of that very image."""
    (images, _), test_set = tiny
    teacher, student, batches = TeacherCNN(), Watch().eval(), []  # left in evaluation mode
    numbers = torch.arange(150) % 10  # in place of labels: they tell where an image came from

    def watching_loss(logits, teacher_logits, labels):
        batches.append((teacher_logits, labels))
        return F.cross_entropy(logits, labels)

    options = {"teacher_logits": soft_labels(teacher, images, jitter), "jitter": jitter}
    options |= {"distillation_loss": watching_loss, "epochs": 2, "batch_size": 32}
    kd_mnist.train(student, (images, numbers), test_set, **options)
    assert len(batches) == len(student.seen) == 10
    for seen, (teacher_logits, labels) in zip(student.seen, batches):
        torch.testing.assert_close(teacher_logits, predict(teacher, seen))
        if not jitter:
            found = [(images == image).flatten(1).all(1).nonzero()[0, 0] for image in seen]
            assert torch.equal(labels, torch.stack(found) % 10)


def test_only_the_seed_orders_the_batches(fit):
    """Whatever else draws random numbers."""
    first, history = fit(seed=3, jitter=1)
    second, again = fit(seed=3, jitter=1, report=lambda *_: torch.rand(100))
    assert same_weights(first, second) and not same_weights(first, fit(seed=4, jitter=1)[0])
    assert [e["loss"] for e in history] == [e["loss"] for e in again]


def test_evaluating_does_not_change_training(fit, monkeypatch):
    watched, _ = fit()
    monkeypatch.setattr(kd_mnist, "predict", lambda *_: torch.zeros(60, 10))
    assert same_weights(watched, fit()[0])


def test_training_learns_and_reports(fit):
    reported = []
    _, history = fit(epochs=40, report=lambda *both: reported.append(both))
    assert history[-1]["loss"] < history[0]["loss"] / 5 and history[-1]["test_accuracy"] > 0.8
    assert reported == [(record, 40) for record in history]
    assert [record["epoch"] for record in history] == list(range(1, 41))


def test_the_loss_of_an_epoch_is_the_mean_over_images(tiny, fit):
    """With a last batch of another size too; a learning rate of almost 0 keeps the weights."""
    student, history = fit(epochs=1, batch_size=64, lr=1e-30)
    expected = F.cross_entropy(student(tiny[0][0]), tiny[0][1]).item()
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_teacher_has_one_cycle_and_the_students_a_constant_rate(tiny, monkeypatch):
    class Recorder(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    rates = []
    monkeypatch.setattr(torch.optim, "Adam", Recorder)
    kd_mnist.train_teacher(*tiny, epochs=4, lr=0.01, batch_size=32)
    assert len(rates) == 20 and max(rates) == pytest.approx(0.01, rel=0.05)
    assert rates[0] < 0.001 and rates[-1] < 1e-5
    rates.clear()
    kd_mnist.train_students(*tiny, None, seeds=[0], epochs=2)
    assert set(rates) == {1e-3}


@pytest.mark.parametrize(
    "shape, jitter", [((149, 10), 0), ((150, 9, 10), 0), ((150, 25, 10), 1), ((150, 10), 1)]
)
def test_soft_labels_of_another_set_are_refused(fit, shape, jitter):
    with pytest.raises(ValueError, match="soft labels"):
        fit(teacher_logits=torch.zeros(shape), jitter=jitter)


def test_a_loss_that_is_nan_stops_the_run(fit):
    with pytest.raises(FloatingPointError, match="epoch 1"):
        fit(lr=1e38)
