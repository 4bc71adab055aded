"""The method: models, loss, soft labels, the pairing of the students, the training loop."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kd_mnist
from kd_mnist import DistillationLoss, StudentMLP, TeacherCNN, TeacherMLP, predict


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
def logits():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 7)
    return 3 * generator.normal(size=(7, 10)), 3 * generator.normal(size=(7, 10)), labels


def tensors(student, teacher, labels):
    return (
        torch.tensor(student, requires_grad=True),
        torch.tensor(teacher, requires_grad=True),
        torch.tensor(labels),
    )


@pytest.mark.parametrize("temperature", [0.5, 2.0, 3.5, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7, 1.0])
def test_loss_is_the_formula(logits, temperature, alpha):
    loss = DistillationLoss(temperature, alpha)(*tensors(*logits))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(numpy_loss(*logits, temperature, alpha), rel=1e-12)


def test_loss_defaults_are_the_tutorials(logits):
    expected = numpy_loss(*logits, temperature=2.0, alpha=0.5)
    assert DistillationLoss()(*tensors(*logits)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature, alpha", [(3.0, 0.8), (0.7, 1.0), (5.0, 0.0)])
def test_gradient_matches_finite_differences_and_the_closed_form(logits, temperature, alpha):
    student, teacher, labels = tensors(*logits)
    loss = DistillationLoss(temperature, alpha)
    loss(student, teacher, labels).backward()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher.detach(), labels), student)
    s, t, y = logits
    soft = temperature * (softmax(s / temperature) - softmax(t / temperature))
    hard = softmax(s) - np.eye(10)[y]
    expected = (alpha * soft + (1 - alpha) * hard) / len(y)
    np.testing.assert_allclose(student.grad.numpy(), expected, atol=1e-12)


def test_no_gradient_reaches_the_teacher(logits):
    student, teacher, labels = tensors(*logits)
    DistillationLoss(2.0, 0.5)(student, teacher, labels).backward()
    assert teacher.grad is None


def test_alpha_weighs_the_teacher(logits):
    student, teacher, labels = tensors(*logits)
    other_labels, other_teacher = (labels + 1) % 10, teacher.detach() + student.detach()
    only_labels, only_teacher = DistillationLoss(3.0, 0.0), DistillationLoss(3.0, 1.0)
    assert only_labels(student, teacher, labels) == F.cross_entropy(student, labels)
    assert only_labels(student, teacher, labels) == only_labels(student, other_teacher, labels)
    assert only_labels(student, teacher, labels) != only_labels(student, teacher, other_labels)
    assert only_teacher(student, teacher, labels) == only_teacher(student, teacher, other_labels)
    assert only_teacher(student, teacher, labels) != only_teacher(student, other_teacher, labels)


def test_a_student_that_matches_its_teacher_has_no_soft_loss(logits):
    student, _, labels = tensors(*logits)
    assert DistillationLoss(4.0, 1.0)(student, student, labels).item() == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_impossible_temperature(bad):
    with pytest.raises(ValueError, match="temperature"):
        DistillationLoss(temperature=bad)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_impossible_alpha(bad):
    with pytest.raises(ValueError, match="alpha"):
        DistillationLoss(alpha=bad)


@pytest.mark.parametrize(
    "student, teacher, labels, shown",
    [
        ((4, 10), (4, 9), (4,), ["(4, 10)", "(4, 9)"]),
        ((4, 10), (1, 10), (4,), ["(4, 10)", "(1, 10)"]),
        ((10,), (10,), (10,), ["(10,)"]),
        ((4, 10), (4, 10), (3,), ["(4, 10)", "(3,)"]),
        ((4, 10), (4, 10), (4, 1), ["(4, 10)", "(4, 1)"]),
    ],
)
def test_shapes_that_do_not_match_are_shown(student, teacher, labels, shown):
    with pytest.raises(ValueError) as error:
        DistillationLoss()(
            torch.zeros(student), torch.zeros(teacher), torch.zeros(labels, dtype=torch.long)
        )
    assert all(shape in str(error.value) for shape in shown)


@pytest.mark.parametrize(
    "model, parameters",
    [
        (TeacherCNN(), 20_490),
        (StudentMLP(), 101_770),
        (StudentMLP((800, 800)), 1_276_810),
        (TeacherMLP(), 2_395_210),
    ],
)
def test_parameters_and_output(model, parameters):
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_pooling_first_is_the_same_function():
    torch.manual_seed(0)
    teacher, images = TeacherCNN(), torch.rand(5, 1, 28, 28)
    x = F.max_pool2d(F.relu(teacher.conv1(images)), 2)
    x = F.max_pool2d(F.relu(teacher.conv2(x)), 2)
    assert torch.equal(teacher(images), teacher.linear(x.flatten(1)))


def test_cost_counts_multiply_adds_by_the_book():
    images = torch.rand(3, 1, 28, 28)
    convolutions = 28 * 28 * 16 * 9 + 14 * 14 * 32 * 16 * 9
    assert kd_mnist.cost(TeacherCNN(), images)["multiply_adds"] == convolutions + 32 * 49 * 10
    assert kd_mnist.cost(StudentMLP(), images)["multiply_adds"] == 784 * 128 + 128 * 10


def test_predict_is_evaluation_without_gradients_and_leaves_the_mode():
    model, images = TeacherMLP((20, 20)), torch.rand(10, 1, 28, 28)
    logits = predict(model, images, batch_size=3)
    assert model.training and not logits.requires_grad
    assert torch.allclose(logits, predict(model, images), atol=1e-6)  # no dropout
    assert not predict(model.eval(), images).requires_grad and not model.training


def test_bytes_and_floats_are_the_same_images(tiny):
    (images, labels), _ = tiny
    pixels = (images * 255).round().to(torch.uint8)
    assert kd_mnist.ink(images) is images
    assert kd_mnist.ink(pixels).max() <= 1
    torch.testing.assert_close(kd_mnist.ink(pixels), images, atol=0.51 / 255, rtol=0)
    weights = []
    for version in (pixels, pixels.float() / 255):
        torch.manual_seed(0)
        student = StudentMLP()
        kd_mnist.train(student, (version, labels), (version, labels), epochs=1, jitter=1)
        weights.append(student)
    assert same_weights(*weights)


def test_soft_labels_are_indexed_by_sample_for_every_move(tiny):
    torch.manual_seed(0)
    teacher, images = TeacherCNN(), tiny[0][0][:20]
    plain, moved = kd_mnist.soft_labels(teacher, images), kd_mnist.soft_labels(teacher, images, 1)
    assert plain.shape == (20, 10) and moved.shape == (20, 9, 10)
    torch.testing.assert_close(moved[:, 4], plain)  # the middle move is none
    i, down, across = 7, 1, -1
    by_hand = torch.roll(F.pad(images[i], [1] * 4), (down, across), (1, 2))[:, 1:-1, 1:-1]
    which = 3 * (1 - down) + (1 - across)
    torch.testing.assert_close(moved[i, which], predict(teacher, by_hand[None])[0])


def test_shift_moves_by_what_it_says_and_keeps_the_content():
    images = torch.zeros(25, 1, 28, 28)
    images[:, 0, 4:24, 4:24] = torch.rand(25, 20, 20)
    shifted = kd_mnist.shift(images, 2, torch.arange(25))
    assert shifted.shape == images.shape
    seen = set()
    for before, after in zip(images[:, 0], shifted[:, 0]):
        matches = [
            (down, across)
            for down in range(-2, 3)
            for across in range(-2, 3)
            if torch.equal(torch.roll(before, (down, across), (0, 1)), after)
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 25  # each move once


def test_shift_does_not_wrap_around():
    images = torch.ones(9, 1, 28, 28)
    sums = kd_mnist.shift(images, 1, torch.arange(9)).sum((1, 2, 3))
    assert sorted(sums.tolist()) == [27 * 27] * 4 + [27 * 28] * 4 + [28 * 28]


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize("jitter", [0, 1])
def test_alpha_0_gives_the_controls_weights_bit_for_bit(tiny, fit, jitter):
    teacher_logits = kd_mnist.soft_labels(TeacherCNN(), tiny[0][0], jitter)
    control, history = fit(jitter=jitter)
    distilled, distilled_history = fit(
        jitter=jitter, teacher_logits=teacher_logits, distillation_loss=DistillationLoss(3.0, 0.0)
    )
    assert same_weights(control, distilled)
    assert [e["test_accuracy"] for e in history] == [e["test_accuracy"] for e in distilled_history]


def test_alpha_1_ignores_the_labels(tiny, fit, monkeypatch):
    (images, labels), test_set = tiny
    options = {
        "teacher_logits": predict(TeacherCNN(), images),
        "distillation_loss": DistillationLoss(3.0, 1.0),
    }
    right, _ = fit(**options)
    labels.copy_((labels + 1) % 10)
    wrong, _ = fit(**options)
    assert same_weights(right, wrong)


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
def test_control_and_distilled_share_weights_and_batches(tiny, fit, monkeypatch, jitter):
    monkeypatch.setattr(kd_mnist, "StudentMLP", Watch)
    teacher_logits = kd_mnist.soft_labels(TeacherCNN(), tiny[0][0], jitter)
    loss = DistillationLoss(2.0, 0.5)
    control, _ = fit(jitter=jitter, seed=5)
    distilled, _ = fit(jitter=jitter, seed=5, teacher_logits=teacher_logits, distillation_loss=loss)
    other, _ = fit(jitter=jitter, seed=6)
    assert all(map(torch.equal, control.first, distilled.first))
    assert len(control.seen) == 2 * 5 and all(map(torch.equal, control.seen, distilled.seen))
    assert not same_weights(control, distilled)
    assert not torch.equal(control.seen[0], other.seen[0])
    assert not torch.equal(control.seen[0], control.seen[5])  # another order in the second epoch


@pytest.mark.parametrize("jitter", [0, 1])
def test_each_image_meets_its_own_soft_labels(tiny, monkeypatch, jitter):
    """The loss is given, for each image of each batch, what the teacher says of that very image."""
    (images, _), _ = tiny
    torch.manual_seed(1)
    teacher, student, batches = TeacherCNN(), Watch(), []

    def watching_loss(logits, teacher_logits, labels):
        batches.append(teacher_logits)
        return F.cross_entropy(logits, labels)

    kd_mnist.train(
        student, *tiny, epochs=2, batch_size=32, jitter=jitter,
        teacher_logits=kd_mnist.soft_labels(teacher, images, jitter),
        distillation_loss=watching_loss,
    )  # fmt: skip
    assert len(batches) == len(student.seen) == 10
    for seen, teacher_logits in zip(student.seen, batches):
        torch.testing.assert_close(teacher_logits, predict(teacher, seen))


def test_same_seed_same_result_whatever_happens_between(fit):
    first, history = fit(seed=3)
    torch.rand(100)
    second, again = fit(seed=3)
    other, _ = fit(seed=4)
    assert same_weights(first, second) and not same_weights(first, other)
    assert [e["loss"] for e in history] == [e["loss"] for e in again]


def test_only_the_seed_orders_the_batches(tiny):
    """Whatever state the global generator is in."""
    weights = []
    for state in (1, 2):
        torch.manual_seed(0)
        student = StudentMLP()
        torch.manual_seed(state)
        kd_mnist.train(student, *tiny, epochs=1, seed=5, jitter=1, batch_size=32)
        weights.append(student)
    assert same_weights(*weights)


def test_evaluating_does_not_change_training(tiny, fit, monkeypatch):
    watched, _ = fit()
    nothing = torch.zeros(60, 10)
    monkeypatch.setattr(kd_mnist, "predict", lambda *_: nothing)
    unwatched, _ = fit()
    assert same_weights(watched, unwatched)


def test_soft_labels_alone_mean_the_default_loss(tiny, fit):
    teacher_logits = torch.randn(150, 10)
    loss = DistillationLoss(2.0, 0.5)
    explicit, _ = fit(teacher_logits=teacher_logits, distillation_loss=loss)
    implicit, _ = fit(teacher_logits=teacher_logits)
    assert same_weights(explicit, implicit)


def test_training_learns(fit):
    _, history = fit(epochs=40)
    assert history[-1]["loss"] < history[0]["loss"] / 5 and history[-1]["test_accuracy"] > 0.8
    assert [e["epoch"] for e in history] == list(range(1, 41))


def test_mean_loss_is_the_mean_over_images(tiny, monkeypatch, fit):
    """With a last batch of another size too; a learning rate of almost 0 keeps the weights."""
    student, history = fit(epochs=1, batch_size=64, lr=1e-30)
    images, labels = tiny[0]
    expected = F.cross_entropy(student(images), labels).item()
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_one_cycle_ends_near_zero(fit):
    rates = []

    class Recorder(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Recorder)
        fit(epochs=4, lr=0.01, one_cycle=True)
    assert len(rates) == 20 and max(rates) == pytest.approx(0.01, rel=0.05)
    assert rates[0] < 0.001 and rates[-1] < 1e-5


@pytest.mark.parametrize(
    "shape, jitter", [((149, 10), 0), ((150, 9, 10), 0), ((150, 25, 10), 1), ((150, 10), 1)]
)
def test_soft_labels_of_another_set_are_refused(fit, shape, jitter):
    with pytest.raises(ValueError, match="soft labels"):
        fit(teacher_logits=torch.zeros(shape), distillation_loss=DistillationLoss(), jitter=jitter)


def test_a_model_left_in_eval_mode_is_trained_all_the_same(tiny):
    weights = []
    for mode in (True, False):
        torch.manual_seed(0)
        teacher = TeacherMLP((20,)).train(mode)
        kd_mnist.train(teacher, *tiny, epochs=1)
        weights.append(teacher)
    assert same_weights(*weights)


def test_a_loss_that_is_no_number_stops_the_run(fit):
    with pytest.raises(FloatingPointError, match="epoch 1"):
        fit(lr=1e38)


def test_a_teacher_matched_to_the_wrong_images_is_noticed(tiny, monkeypatch):
    """The script's own alarm for a cache in another order than the images."""
    args = kd_mnist.build_parser().parse_args(["--teacher-epochs", "30", "--device", "cpu"])
    rows = torch.randperm(150)
    real = kd_mnist.soft_labels
    monkeypatch.setattr(kd_mnist, "soft_labels", lambda *a: real(*a)[rows])
    fit = kd_mnist.partial(kd_mnist.train, test_set=tiny[1])
    with pytest.raises(AssertionError, match="other images"):
        kd_mnist.teach(args, fit, tiny[0])


def test_lr_and_momentum_are_plain_adam(tiny, fit):
    """One step by hand: Adam's first step moves each weight by lr in its gradient's direction."""
    torch.manual_seed(0)
    student = StudentMLP()
    before = student[3].bias.detach().clone()
    F.cross_entropy(student(tiny[0][0]), tiny[0][1]).backward()
    gradient = student[3].bias.grad
    trained, _ = fit(epochs=1, batch_size=1000, lr=1e-3)
    expected = before - 1e-3 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(trained[3].bias.detach(), expected)
