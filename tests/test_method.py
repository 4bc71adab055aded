"""The method: the loss, predictions, the training loop, and its pairs of students."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kd_mnist import (
    DistillationLoss,
    StudentMLP,
    TeacherCNN,
    predict,
    random_shift,
    train,
    train_pairs,
)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def numpy_loss(student, teacher, labels, temperature, alpha):
    """The formula of the paper, written without torch."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    divergence = (p * (np.log(p) - np.log(q))).sum(1).mean()
    hard = -np.log(softmax(student)[np.arange(len(labels)), labels]).mean()
    return alpha * temperature**2 * divergence + (1 - alpha) * hard


@pytest.fixture
def batch():
    """Student's logits, teacher's logits and labels of seven images."""
    random = np.random.default_rng(0)
    student, teacher = torch.from_numpy(3 * random.normal(size=(2, 7, 10)))
    labels = torch.from_numpy(random.integers(0, 10, 7)).long()
    return student.requires_grad_(), teacher.requires_grad_(), labels


@pytest.mark.parametrize("temperature", [0.5, 2.0, 3.5, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7, 1.0])
def test_the_loss_is_the_formula(batch, temperature, alpha):
    loss = DistillationLoss(temperature, alpha)(*batch)
    arrays = [part.detach().numpy() for part in batch]
    expected = numpy_loss(*arrays, temperature, alpha)
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature, alpha", [(3.0, 0.8), (0.7, 1.0), (5.0, 0.0)])
def test_its_gradient_is_the_closed_form_and_none_reaches_the_teacher(
    batch, temperature, alpha
):
    student, teacher, labels = batch
    DistillationLoss(temperature, alpha)(student, teacher, labels).backward()
    s, t = student.detach().numpy(), teacher.detach().numpy()
    soft = temperature * (softmax(s / temperature) - softmax(t / temperature))
    hard = softmax(s) - np.eye(10)[labels]
    expected = (alpha * soft + (1 - alpha) * hard) / 7
    np.testing.assert_allclose(student.grad, expected, atol=1e-12)
    assert teacher.grad is None


@pytest.mark.parametrize(
    "network, weights", [(TeacherCNN, 20_490), (StudentMLP, 101_770)]
)
def test_a_network_gives_logits_of_any_images(network, weights):
    assert sum(w.numel() for w in network().parameters()) == weights
    assert network()(torch.rand(7, 1, 28, 28)).shape == (7, 10)
    other = network(12, image_shape=(3, 9, 21), classes=4)
    assert other(torch.rand(7, 3, 9, 21)).shape == (7, 4)


def test_predict_evaluates_and_leaves_mode_and_images_as_they_were():
    class InPlace(nn.Module):
        def forward(self, images):
            return images.sub_(0.5)

    layers = InPlace(), nn.Flatten(), nn.Linear(784, 10), nn.Dropout(0.5)
    model = nn.Sequential(*layers)
    images = torch.rand(10, 1, 28, 28)
    before = images.clone()
    logits = predict(model, images, batch_size=3)
    assert model.training and layers[3].training and not logits.requires_grad
    assert torch.equal(images, before)
    expected = layers[2]((images - 0.5).flatten(1))  # no dropout
    torch.testing.assert_close(logits, expected.detach())


def test_random_shift_moves_by_whole_pixels_and_brings_in_zeros():
    point = F.pad(torch.ones(2, 1, 1, 1), [3] * 4)
    places = set()
    for _ in range(500):
        moved = random_shift(point, 2)
        assert torch.equal(moved[0], moved[1]) and moved.shape == point.shape
        places.add(tuple(moved[0, 0].nonzero()[0].tolist()))
    assert places == {(row, column) for row in range(1, 6) for column in range(1, 6)}
    corner = torch.ones(1, 1, 3, 3)
    assert {int(random_shift(corner).sum()) for _ in range(100)} == {4, 6, 9}


class Watch(nn.Module):
    """A small network that remembers its first weights and every training batch."""

    def __init__(self, classes=10):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU())
        self.last = nn.Linear(32, classes)
        self.first = self.last.weight.detach().clone()
        self.seen = []

    def forward(self, images):
        if self.training:
            self.seen.append(images.clone())
        return self.last(self.layers(images))


def same_weights(a, b):
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def fit(data, seed=0, epochs=2, batch_size=32, **options):
    """Train a fresh network on tiny data; return it and its history."""
    torch.manual_seed(seed)
    model = Watch()
    options = {"epochs": epochs, "seed": seed, "batch_size": batch_size, **options}
    return model, train(model, *data, verbose=False, **options)


def test_training_is_the_textbooks_loop(tiny):
    """New gradients, the loss of the batch, a step of Adam, a step of the schedule."""
    images, labels = tiny[0]
    teacher_logits = predict(TeacherCNN(), images)
    torch.manual_seed(6)
    expected = Watch()
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, 2 * 3)
    generator = torch.Generator().manual_seed(6)
    for _ in range(2):
        for batch in torch.randperm(150, generator=generator).split(50):
            logits = expected(images[batch])
            loss = DistillationLoss()(logits, teacher_logits[batch], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model, _ = fit(tiny, 6, 2, 50, lr=0.01, teacher_logits=teacher_logits)
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
    assert not torch.equal(first.seen[0], first.seen[5])  # another order in each epoch


def test_a_transform_changes_what_the_model_learns_from_but_no_test_image(tiny):
    model, history = fit(tiny, transform=lambda images: 1 - images)
    plain, _ = fit(tiny)
    assert all(torch.equal(a, 1 - b) for a, b in zip(model.seen, plain.seen))
    right = predict(model, tiny[1][0]).argmax(1) == tiny[1][1]
    assert history[-1]["test_accuracy"] == right.float().mean().item()


def test_the_loss_of_an_epoch_is_named_and_the_mean_over_images(tiny, capsys):
    """With batches of different sizes too; a learning rate of almost 0 changes nothing."""
    model, history = fit(tiny, epochs=1, batch_size=40, lr=1e-30)
    expected = F.cross_entropy(predict(model, tiny[0][0]), tiny[0][1]).item()
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert history[0].keys() == {"epoch", "loss", "seconds", "test_accuracy"}
    train(model, *tiny, epochs=2)
    train(model, *tiny, epochs=2, teacher_logits=torch.randn(150, 10))
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()[:3]) for line in lines] == [
        "epoch 1/2 cross-entropy",
        "epoch 2/2 cross-entropy",
        "epoch 1/2 distillation",
        "epoch 2/2 distillation",
    ]


def test_alpha_0_gives_the_controls_weights_bit_for_bit(tiny):
    teacher_logits = predict(TeacherCNN(), tiny[0][0])
    loss = DistillationLoss(3.0, 0.0)
    control, history = fit(tiny)
    same, again = fit(tiny, distillation_loss=loss, teacher_logits=teacher_logits)
    other, _ = fit(tiny, teacher_logits=teacher_logits)
    assert same_weights(control, same) and not same_weights(control, other)
    assert [e["test_accuracy"] for e in history] == [e["test_accuracy"] for e in again]


def test_the_pairs_share_weights_and_batches(tiny):
    teacher = TeacherCNN()
    networks, records = train_pairs(
        teacher, *tiny, new_student=Watch, epochs=2, pairs=2, seed=5, batch_size=32
    )
    assert networks[0] is teacher
    named = [(record["network"], record["seed"]) for record in records]
    assert named == [
        ("teacher", 5),
        ("student alone", 5),
        ("student distilled", 5),
        ("student alone", 6),
        ("student distilled", 6),
    ]
    _, alone, distilled, other, _ = networks
    assert torch.equal(alone.first, distilled.first)
    assert len(alone.seen) == 10 and all(map(torch.equal, alone.seen, distilled.seen))
    assert not same_weights(alone, distilled)
    assert not torch.equal(alone.first, other.first)
    assert not torch.equal(alone.seen[0], other.seen[0])
    by_hand, _ = fit(tiny, 5, teacher_logits=predict(teacher, tiny[0][0]))
    assert same_weights(by_hand, distilled)


def test_each_image_meets_its_own_soft_label_and_label(tiny):
    """The loss is given what the teacher says of that very image, and its label."""
    (images, _), test_set = tiny
    teacher, batches = TeacherCNN(), []
    numbers = torch.arange(150) % 10  # in place of labels: they tell which image it was

    def watching_loss(logits, teacher_logits, labels):
        batches.append((teacher_logits, labels))
        return F.cross_entropy(logits, labels)

    networks, _ = train_pairs(
        teacher,
        (images, numbers),
        test_set,
        distillation_loss=watching_loss,
        new_student=Watch,
        epochs=2,
        batch_size=32,
    )
    distilled = networks[2]
    assert len(batches) == len(distilled.seen) == 10  # the control never calls it
    for seen, (answers, labels) in zip(distilled.seen, batches):
        torch.testing.assert_close(answers, predict(teacher, seen))
        found = [(images == image).flatten(1).all(1).nonzero()[0, 0] for image in seen]
        assert torch.equal(labels, torch.stack(found) % 10)


def test_dropout_is_the_same_in_a_pair_and_off_in_evaluation(tiny):
    def new_student():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))

    networks, _ = train_pairs(
        TeacherCNN(),
        *tiny,
        distillation_loss=DistillationLoss(alpha=0.0),
        new_student=new_student,
        epochs=2,
    )
    assert same_weights(networks[1], networks[2]) and not networks[1].training


def test_it_learns_under_autocast_as_without(tiny):
    teacher_logits = 5 * F.one_hot(tiny[0][1], 10).float()
    for options in ({}, {"teacher_logits": teacher_logits}):
        _, plain = fit(tiny, epochs=12, **options)
        with torch.autocast("cpu", torch.bfloat16):
            _, history = fit(tiny, epochs=12, **options)
        assert history[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=0.1)
        assert abs(history[-1]["test_accuracy"] - plain[-1]["test_accuracy"]) < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_everything_on_cuda(tiny):
    """The same batches as on the CPU; weights, records and figures come back from it."""
    from kd_mnist import draw_curves, print_results, show_soft_labels

    on_gpu = [[part.cuda() for part in one] for one in tiny]
    teacher = TeacherCNN().cuda()
    train(teacher, *on_gpu, epochs=2, transform=random_shift)
    networks, records = train_pairs(teacher, *on_gpu, new_student=Watch, epochs=2)
    on_cpu = copy.deepcopy(teacher).cpu()
    again, _ = train_pairs(on_cpu, *tiny, new_student=Watch, epochs=2)
    for one, other in zip(networks[1].seen, again[1].seen):
        torch.testing.assert_close(one.cpu(), other)
    show_soft_labels(teacher, *on_gpu[0])
    print_results(networks, records, on_gpu[1])
    draw_curves(records)
