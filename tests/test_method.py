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


def test_with_t_squared_the_gradient_hardly_depends_on_the_temperature(batch):
    """Without it, T = 20 would leave some hundredth of the gradient at T = 1."""
    student, teacher, labels = batch
    losses = [DistillationLoss(t, alpha=1.0)(student, teacher, labels) for t in (1.0, 20.0)]
    sizes = [torch.autograd.grad(loss, student)[0].norm().item() for loss in losses]
    assert 0.5 < sizes[1] / sizes[0] < 2


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
    trained = kd_mnist.Trained(model, [], predict(model, test_set[0]))
    measured = kd_mnist.measure(trained, test_set)
    assert (measured["parameters"], measured["multiply_adds"]) == (weights, multiply_adds)


def test_predict_evaluates_without_gradients_and_leaves_the_mode():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Dropout(0.5))
    images = torch.rand(10, 1, 28, 28)
    logits = predict(model, images, batch_size=3)
    assert model.training and not logits.requires_grad
    torch.testing.assert_close(logits, model[1](images.flatten(1)).detach())  # no dropout
    predict(model.eval(), images)
    assert not model.training


def test_shift_moves_down_and_right_and_brings_in_zeros():
    images = torch.rand(3, 2, 9, 7)
    for down, right in kd_mnist.all_shifts(2):
        expected = F.pad(images, [2] * 4).roll((down, right), (2, 3))[:, :, 2:-2, 2:-2]
        assert torch.equal(kd_mnist.shift(images, down, right), expected)
    assert len(set(kd_mnist.all_shifts(2))) == 25 and kd_mnist.all_shifts(0) == [(0, 0)]


@pytest.mark.parametrize("max_shift", [0, 1])
def test_alpha_0_gives_the_controls_weights_bit_for_bit(tiny, fit, max_shift):
    soft = soft_labels(TeacherCNN(), tiny[0][0], max_shift)
    loss = DistillationLoss(3.0, 0.0)
    control, history = fit(max_shift=max_shift)
    distilled, again = fit(distillation_loss=loss, teacher_logits=soft, max_shift=max_shift)
    assert same_weights(control, distilled)
    assert [e["test_accuracy"] for e in history] == [e["test_accuracy"] for e in again]


class Watch(StudentMLP):
    """A student that remembers its first weights and every training batch."""

    def __init__(self):
        super().__init__()
        self.seen, self.first = [], [p.detach().clone() for p in self.parameters()]

    def forward(self, images):
        if self.training:
            self.seen.append(images.clone())
        return super().forward(images)


@pytest.mark.parametrize("max_shift", [0, 2])
def test_control_and_distilled_share_weights_and_batches(tiny, max_shift):
    settings = kd_mnist.Settings(
        runs=2, seed=5, batch_size=32, student_epochs=2, student_shift=max_shift
    )
    experiment = kd_mnist.run_experiment(*tiny, settings, TeacherCNN(), Watch)
    control, other = (pair.model for pair in experiment.alone)
    distilled = experiment.distilled[0].model
    assert all(map(torch.equal, control.first, distilled.first))
    assert len(control.seen) == 2 * 5 and all(map(torch.equal, control.seen, distilled.seen))
    assert not same_weights(control, distilled)
    assert not torch.equal(control.first[0], other.first[0])
    assert not torch.equal(control.seen[0], other.seen[0])
    assert not torch.equal(control.seen[0], control.seen[5])  # another order in the second epoch


@pytest.mark.parametrize("max_shift", [0, 1])
def test_each_image_meets_its_own_soft_labels_and_label(tiny, max_shift):
    """The loss is given, for each image of each batch, what the teacher says of that very image."""
    (images, _), test_set = tiny
    teacher, student, batches = TeacherCNN(), Watch().eval(), []  # left in evaluation mode
    numbers = torch.arange(150) % 10  # in place of labels: they tell where an image came from

    def watching_loss(logits, teacher_logits, labels):
        batches.append((teacher_logits, labels))
        return F.cross_entropy(logits, labels)

    soft = soft_labels(teacher, images, max_shift)
    options = {"epochs": 2, "batch_size": 32, "max_shift": max_shift, "teacher_logits": soft}
    sets = (images, numbers), test_set
    kd_mnist.train(student, *sets, distillation_loss=watching_loss, **options)
    assert len(batches) == len(student.seen) == 10
    for seen, (teacher_logits, labels) in zip(student.seen, batches):
        torch.testing.assert_close(teacher_logits, predict(teacher, seen))
        if not max_shift:
            found = [(images == image).flatten(1).all(1).nonzero()[0, 0] for image in seen]
            assert torch.equal(labels, torch.stack(found) % 10)


def test_only_the_seed_orders_the_batches(fit):
    """Whatever else draws random numbers."""
    first, history = fit(seed=3, max_shift=1)
    second, again = fit(seed=3, max_shift=1, progress=lambda _: torch.rand(100))
    assert same_weights(first, second) and not same_weights(first, fit(seed=4, max_shift=1)[0])
    assert [e["loss"] for e in history] == [e["loss"] for e in again]


def test_training_learns_and_tells_its_progress(fit):
    lines = []
    _, history = fit(epochs=40, progress=lines.append)
    assert history[-1]["loss"] < history[0]["loss"] / 5 and history[-1]["test_accuracy"] > 0.8
    assert [record["epoch"] for record in history] == list(range(1, 41))
    assert len(lines) == 20 and lines[4].split()[:2] == ["epoch", "10/40"]  # every second epoch
    assert f"{history[9]['test_accuracy']:.2%}" in lines[4] and "epoch 40/40" in lines[-1]


def test_the_loss_of_an_epoch_is_the_mean_over_images(tiny, fit):
    """With batches of different sizes too; a learning rate of almost 0 keeps the weights."""
    student, history = fit(epochs=1, batch_size=40, lr=1e-30)
    expected = F.cross_entropy(student(tiny[0][0]), tiny[0][1]).item()
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_teacher_has_one_cycle_and_the_students_a_constant_rate(tiny, monkeypatch):
    class Recorder(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    rates = []
    monkeypatch.setattr(torch.optim, "Adam", Recorder)
    settings = kd_mnist.Settings(teacher_epochs=4, teacher_lr=0.01, batch_size=32, student_epochs=2)
    kd_mnist.run_experiment(*tiny, settings)
    teacher, students = rates[:20], rates[20:]
    assert max(teacher) == pytest.approx(0.01, rel=0.05)
    assert teacher[0] < 0.001 and teacher[-1] < 1e-5
    assert len(students) == 2 * 2 * 5 and set(students) == {1e-3}


def test_an_optimizer_of_the_callers_own(tiny):
    """AdamW in one cycle with clipped gradients: each is used, whatever ``lr`` it was made with."""
    torch.manual_seed(0)
    student, norms, rates = StudentMLP(), [], []
    optimizer = torch.optim.AdamW(student.parameters(), lr=1.0, weight_decay=0.1)

    def clip(optimizer, *_):
        norms.append(nn.utils.clip_grad_norm_(student.parameters(), 0.1).item())
        rates.append(optimizer.param_groups[0]["lr"])

    optimizer.register_step_pre_hook(clip)
    kd_mnist.train(
        student, *tiny, epochs=2, lr=1e-3, one_cycle=True, batch_size=32, optimizer=optimizer
    )
    assert len(norms) == 10 and max(norms) > 0.1 and max(rates) == pytest.approx(1e-3, rel=0.2)


def test_a_last_batch_of_one_image_does_not_stop_batch_normalisation(tiny):
    (images, labels), test_set = tiny
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10))
    kd_mnist.train(model, (images[:33], labels[:33]), test_set, epochs=1, batch_size=32)


@pytest.mark.parametrize("m, n, max_shift", [(1, 149, 0), (9, 150, 0), (1, 150, 1), (25, 150, 1)])
def test_soft_labels_of_another_set_or_none_are_refused(fit, m, n, max_shift):
    expected = r"\(9, 150, 'C'\)" if max_shift else r"\(1, 150, 'C'\)"
    with pytest.raises(ValueError, match=expected):
        fit(teacher_logits=torch.zeros(m, n, 10), max_shift=max_shift)
    with pytest.raises(ValueError, match="needs teacher_logits"):
        fit(distillation_loss=DistillationLoss())


IMAGES, LABELS = torch.rand(20, 1, 28, 28), torch.arange(10).repeat(2)
WRONG_DATA = {
    "numpy": (IMAGES.numpy(), LABELS.numpy()),
    "loader": torch.utils.data.DataLoader(list(zip(IMAGES, LABELS))),
    "three tensors": (IMAGES, LABELS, LABELS),
    "lengths": (IMAGES, LABELS[:-1]),
    "one-hot": (IMAGES, F.one_hot(LABELS)),
    "float labels": (IMAGES, LABELS.float()),
    "no channels": (IMAGES[:, 0], LABELS),
    "uint8": ((255 * IMAGES).to(torch.uint8), LABELS),
    "float64": (IMAGES.double(), LABELS),
    "a negative label": (IMAGES, LABELS - 1),
}


@pytest.mark.parametrize("wrong", WRONG_DATA.values(), ids=WRONG_DATA)
def test_wrong_data_are_one_clear_line(wrong):
    right = (IMAGES, LABELS)
    for sets in ((right, wrong), (wrong, right)):
        with pytest.raises((TypeError, ValueError), match=r"^(each data set|need float).*$"):
            kd_mnist.train(StudentMLP(), *sets, epochs=1)
        with pytest.raises((TypeError, ValueError), match=r"^(each data set|need float).*$"):
            kd_mnist.run_experiment(*sets)


def test_a_loss_that_is_nan_stops_the_run(fit):
    with pytest.raises(FloatingPointError, match="epoch 1"):
        fit(lr=1e38)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_everything_on_cuda(tiny):
    """The same batches as on the CPU, the logits for comparing back on the CPU."""
    on_gpu = [[part.cuda() for part in one] for one in tiny]
    settings = kd_mnist.Settings(teacher_epochs=2, student_epochs=2, student_shift=1, batch_size=32)
    experiment = kd_mnist.run_experiment(*on_gpu, settings, new_student=Watch)
    again = kd_mnist.run_experiment(*tiny, settings, new_student=Watch)
    for one, other in zip(experiment.alone[0].model.seen, again.alone[0].model.seen):
        torch.testing.assert_close(one.cpu(), other)
    kd_mnist.draw_figures(experiment, on_gpu[1], kd_mnist.results_table(experiment.results))
