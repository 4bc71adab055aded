"""The method: networks, loss, and the training loop with its fair control."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kd_mnist
from kd_mnist import DistillationLoss, TeacherCNN, predict, train


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
    labels = torch.from_numpy(random.integers(0, 10, 7)).long()
    return student.requires_grad_(), teacher.requires_grad_(), labels


@pytest.mark.parametrize("temperature", [0.5, 2.0, 3.5, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7, 1.0])
def test_loss_is_the_formula(batch, temperature, alpha):
    loss = DistillationLoss(temperature, alpha)(*batch)
    arrays = [part.detach().numpy() for part in batch]
    expected = numpy_loss(*arrays, temperature, alpha)
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature, alpha", [(3.0, 0.8), (0.7, 1.0), (5.0, 0.0)])
def test_gradient_matches_differences_and_the_closed_form(batch, temperature, alpha):
    student, teacher, labels = batch
    loss = DistillationLoss(temperature, alpha)
    assert torch.autograd.gradcheck(
        lambda s: loss(s, teacher.detach(), labels), student
    )
    loss(student, teacher, labels).backward()
    s, t = student.detach().numpy(), teacher.detach().numpy()
    soft = temperature * (softmax(s / temperature) - softmax(t / temperature))
    hard = softmax(s) - np.eye(10)[labels]
    expected = (alpha * soft + (1 - alpha) * hard) / 7
    np.testing.assert_allclose(student.grad, expected, atol=1e-12)
    assert teacher.grad is None


BAD_SETTINGS = [
    (0, 0.5),
    (-1, 0.5),
    (math.nan, 0.5),
    (1e6, 0.5),
    (2, -0.1),
    (2, math.nan),
]


@pytest.mark.parametrize("temperature, alpha", BAD_SETTINGS)
def test_impossible_settings_of_the_loss(temperature, alpha):
    with pytest.raises(
        ValueError, match="alpha" if temperature == 2 else "temperature"
    ):
        DistillationLoss(temperature, alpha)


BAD_SHAPES = [
    ((4, 10), (1, 10), (4,)),
    ((10,), (10,), (10,)),
    ((4, 10), (4, 10), (4, 1)),
    ((4, 1), (4, 1), (4,)),
]


@pytest.mark.parametrize("shapes", BAD_SHAPES)
def test_shapes_that_do_not_fit_the_loss(shapes):
    student, teacher, labels = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match=r"\(N, C\)|labels must be|\(0, z\)"):
        DistillationLoss()(student, teacher, labels.long())


def test_predict_evaluates_and_leaves_mode_and_images_as_they_were():
    class InPlace(nn.Module):
        def forward(self, images):
            return images.sub_(0.5)

    layers = InPlace(), nn.Flatten(), nn.Linear(784, 10), nn.Dropout(0.5)
    model = nn.Sequential(*layers)
    images = torch.rand(10, 1, 28, 28)
    before = images.clone()
    logits = predict(model, images, batch_size=3)
    assert model.training and not logits.requires_grad
    assert torch.equal(images, before)
    expected = layers[2]((images - 0.5).flatten(1))  # no dropout
    torch.testing.assert_close(logits, expected.detach())
    with pytest.raises(ValueError, match="must return logits"):
        predict(nn.Identity(), images)


def test_shift_moves_down_and_right_and_brings_in_zeros():
    images = torch.rand(3, 2, 9, 7)
    for down in (-2, 0, 1):
        for right in (-1, 0, 2):
            rolled = F.pad(images, [2] * 4).roll((down, right), (2, 3))
            moved = kd_mnist.shift(images, down, right)
            assert torch.equal(moved, rolled[:, :, 2:-2, 2:-2])
    point = F.pad(torch.ones(1, 1, 1, 1), [3] * 4)
    places = {tuple(kd_mnist.random_shift(point, 2).nonzero()[0]) for _ in range(500)}
    rows = {int(row) for _, _, row, _ in places}
    assert rows == {1, 2, 3, 4, 5}


class Watch(nn.Module):
    """A small network that remembers its first weights and every training batch."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU())
        self.last = nn.Linear(32, 10)
        self.first = self.last.weight.detach().clone()
        self.seen = []

    def forward(self, images):
        if self.training:
            self.seen.append(images.clone())
        return self.last(self.layers(images))


def fit(data, seed=0, epochs=2, batch_size=32, **options):
    """Train a fresh network on tiny data; return it and its history."""
    torch.manual_seed(seed)
    model = Watch()
    options = {"epochs": epochs, "seed": seed, "batch_size": batch_size, **options}
    return model, train(model, *data, verbose=False, **options)


def test_alpha_0_gives_the_controls_weights_bit_for_bit(tiny):
    teacher_logits = predict(TeacherCNN(), tiny[0][0])
    loss = DistillationLoss(3.0, 0.0)
    control, history = fit(tiny)
    same, again = fit(tiny, distillation_loss=loss, teacher_logits=teacher_logits)
    other, _ = fit(tiny, teacher_logits=teacher_logits)
    assert same_weights(control, same) and not same_weights(control, other)
    assert [e["test_accuracy"] for e in history] == [e["test_accuracy"] for e in again]


def test_the_pairs_of_an_experiment_share_weights_and_batches(tiny):
    settings = kd_mnist.Settings(runs=2, seed=5, batch_size=32, student_epochs=2)
    networks, _ = kd_mnist.run_experiment(*tiny, settings, TeacherCNN(), Watch)
    alone, distilled = [networks[f"student {way}", 5] for way in ("alone", "distilled")]
    assert torch.equal(alone.first, distilled.first)
    assert len(alone.seen) == 10 and all(map(torch.equal, alone.seen, distilled.seen))
    assert not same_weights(alone, distilled)
    other = networks["student alone", 6]
    assert not torch.equal(alone.first, other.first)
    assert not torch.equal(alone.seen[0], other.seen[0])
    assert not torch.equal(alone.seen[0], alone.seen[5])  # another order in each epoch


def test_each_image_meets_its_own_soft_label_and_label(tiny):
    """The loss is given what the teacher says of that very image, and its label."""
    (images, _), test_set = tiny
    teacher, batches = TeacherCNN(), []
    numbers = torch.arange(150) % 10  # in place of labels: they tell which image it was

    def watching_loss(logits, teacher_logits, labels):
        batches.append((teacher_logits, labels))
        return F.cross_entropy(logits, labels)

    teacher_logits = predict(teacher, images)
    options = {"distillation_loss": watching_loss, "teacher_logits": teacher_logits}
    student, _ = fit([(images, numbers), test_set], **options)
    assert len(batches) == len(student.seen) == 10
    for seen, (answers, labels) in zip(student.seen, batches):
        torch.testing.assert_close(answers, predict(teacher, seen))
        found = [(images == image).flatten(1).all(1).nonzero()[0, 0] for image in seen]
        assert torch.equal(labels, torch.stack(found) % 10)


def test_training_is_the_textbooks_loop(tiny):
    """Step by step: new gradients, the loss of the batch, one step of the optimizer."""
    (images, labels), _ = tiny
    teacher_logits = predict(TeacherCNN(), images)
    torch.manual_seed(1)
    model = Watch()
    expected = Watch()
    expected.load_state_dict(model.state_dict())
    own = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"optimizer": own, "teacher_logits": teacher_logits, "verbose": False}
    train(model, *tiny, epochs=1, seed=6, batch_size=50, **options)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(6))
    for batch in order.split(50):
        expected.zero_grad()
        logits = expected(images[batch])
        DistillationLoss()(logits, teacher_logits[batch], labels[batch]).backward()
        with torch.no_grad():
            for weight in expected.parameters():
                weight -= 0.1 * weight.grad
    for weight, other in zip(model.parameters(), expected.parameters()):
        torch.testing.assert_close(weight, other)


def test_only_the_seed_orders_the_batches(tiny):
    def noisy(images):
        torch.rand(100)  # whatever else draws random numbers
        return images

    first, history = fit(tiny, seed=3)
    second, again = fit(tiny, seed=3, transform=noisy)
    assert same_weights(first, second) and not same_weights(first, fit(tiny, seed=4)[0])
    assert [e["loss"] for e in history] == [e["loss"] for e in again]


def test_transform_changes_what_the_model_sees_and_excludes_a_teacher(tiny):
    model, _ = fit(tiny, transform=lambda images: 1 - images)
    plain, _ = fit(tiny)
    assert all(torch.equal(a, 1 - b) for a, b in zip(model.seen, plain.seen))
    with pytest.raises(ValueError, match="loop of your own"):
        fit(tiny, transform=lambda x: x, teacher_logits=torch.zeros(150, 10))


def test_the_loss_of_an_epoch_is_the_mean_over_images(tiny, capsys):
    """With batches of different sizes too; a learning rate of almost 0 changes nothing."""
    model, history = fit(tiny, epochs=1, batch_size=40, lr=1e-30)
    expected = F.cross_entropy(predict(model, tiny[0][0]), tiny[0][1]).item()
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert history[0].keys() == {"epoch", "loss", "seconds", "test_accuracy"}
    train(model, *tiny, epochs=40)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20 and all("cross-entropy" in line for line in lines)
    assert lines[-1].split()[:2] == ["epoch", "40/40"]


def test_one_cycle_or_an_optimizer_of_ones_own(tiny, monkeypatch):
    rates = []

    class Recorder(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "Adam", Recorder)
    fit(tiny, epochs=4, lr=0.01)
    assert max(rates) == pytest.approx(0.01, rel=0.05)
    assert rates[0] < 0.001 and rates[-1] < 1e-5
    rates.clear()
    model = Watch()
    own = Recorder(model.parameters(), lr=0.07)
    train(model, *tiny, epochs=2, optimizer=own, verbose=False)
    assert set(rates) == {0.07}
    with pytest.raises(ValueError, match="none of the model's parameters"):
        train(Watch(), *tiny, epochs=1, optimizer=own)


def test_it_learns_under_autocast_as_without(tiny):
    teacher_logits = 5 * F.one_hot(tiny[0][1], 10).float()
    for options in ({}, {"teacher_logits": teacher_logits}):
        _, plain = fit(tiny, epochs=12, **options)
        with torch.autocast("cpu", torch.bfloat16):
            _, history = fit(tiny, epochs=12, **options)
        assert history[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=0.1)
        assert abs(history[-1]["test_accuracy"] - plain[-1]["test_accuracy"]) < 0.1


def test_a_last_batch_of_one_image_does_not_stop_batch_normalisation(tiny):
    (images, labels), test_set = tiny
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10))
    train(model, (images[:33], labels[:33]), test_set, epochs=1, batch_size=32)


IMAGES, LABELS = torch.rand(20, 1, 28, 28), torch.arange(10).repeat(2)
WRONG_DATA = {
    "numpy": (IMAGES.numpy(), LABELS.numpy()),
    "three tensors": (IMAGES, LABELS, LABELS),
    "lengths": (IMAGES, LABELS[:-1]),
    "one-hot": (IMAGES, F.one_hot(LABELS)),
    "float labels": (IMAGES, LABELS.float()),
    "no channels": (IMAGES[:, 0], LABELS),
    "0 to 255": (255 * IMAGES, LABELS),
    "float64": (IMAGES.double(), LABELS),
    "a negative label": (IMAGES, LABELS - 1),
    "a label too many": (IMAGES, LABELS + 1),
    "nothing": (IMAGES[:0], LABELS[:0]),
}


@pytest.mark.parametrize("name", WRONG_DATA)
def test_wrong_data_are_one_clear_line_before_training(name):
    right, wrong = (IMAGES, LABELS), WRONG_DATA[name]
    for sets in ((right, wrong), (wrong, right)):
        with pytest.raises(ValueError, match=r"^.+$"):
            train(Watch(), *sets, epochs=1)
        teacher = Watch().train()
        with pytest.raises(ValueError, match=r"^.+$"):
            kd_mnist.run_experiment(*sets, teacher=teacher)
        assert teacher.seen == []


def test_normalised_images_pass():
    normalised = ((IMAGES - 0.13) / 0.31, LABELS)
    train(Watch(), normalised, normalised, epochs=1)


LOGITS = torch.randn(20, 10)
WRONG_LOGITS = {
    "another number": LOGITS[1:],
    "an axis more": LOGITS[None],
    "probabilities": LOGITS.softmax(1),
    "log of a 0": LOGITS.clone().fill_(-math.inf),
    "classes": LOGITS[:, :9],
}


@pytest.mark.parametrize("name", WRONG_LOGITS)
def test_wrong_teacher_logits_are_refused(name):
    data = (IMAGES, LABELS)
    with pytest.raises(ValueError, match="logits"):
        train(Watch(), data, data, epochs=1, teacher_logits=WRONG_LOGITS[name])


def test_a_loss_that_is_nan_stops_the_run(tiny):
    with pytest.raises(FloatingPointError, match="epoch 1"):
        fit(tiny, lr=1e38)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_everything_on_cuda(tiny):
    """The same batches as on the CPU; weights, results and figures come back from it."""
    on_gpu = [[part.cuda() for part in one] for one in tiny]
    settings = kd_mnist.Settings(teacher_epochs=2, student_epochs=2, batch_size=32)
    networks, records = kd_mnist.run_experiment(*on_gpu, settings, new_student=Watch)
    again, _ = kd_mnist.run_experiment(*tiny, settings, new_student=Watch)
    key = ("student alone", 0)
    for one, other in zip(networks[key].seen, again[key].seen):
        torch.testing.assert_close(one.cpu(), other)
    kd_mnist.compare(networks, on_gpu[1])
    logits = predict(networks["teacher", 0], on_gpu[0][0])
    kd_mnist.draw_soft_labels(*on_gpu[0], logits)
    kd_mnist.draw_curves(records)
