r"""Claim: with one line of code, seven of nine libraries give the loss of this page.

textbrewer then gives its gradient, vit-pytorch neither; trl's loss has no labels. As
they come, at T = 4, only PyTorch's tutorial and fasterai compute it.

The packages are not those of the project. An environment for them, of several GB:

    python3.11 -m venv libraries
    libraries/bin/pip install -r requirements.txt torch==2.14.1 torchvision==0.29.1 \
        keras==3.15.1 timm==1.0.31 torchdistill==1.1.5 nvidia-modelopt==0.47.0 \
        fasterai==0.4.1 fastai==2.8.12 textbrewer==0.2.1.post1 vit-pytorch==1.26.14 \
        trl==1.16.0 transformers==5.24.0 datasets==5.2.0
    OMP_NUM_THREADS=1 libraries/bin/python tests/claims/libraries.py

Measured: every loss on the same logits of 64 images and ten classes, at T = 4, divided
by DistillationLoss: its value, the length of its gradient with respect to the student's
logits; and the cosine of the two gradients. First as the library comes, at its own
alpha or, of soft labels alone, at 1; then with the line of code, at 1 and 0.3. The
program stops if the gradient is then not that of this page.

Result, as it comes; "weighs" is what the library's own weight weighs:
                                            weighs   T^2      mean over  value gradient
    torch 2.14.1 PyTorch's tutorial         both     yes      images     1.000    1.000
    keras 3.15.1 LogitsDistillation         labels   no       images     2.583   14.564
    timm 1.0.31 LogitDistillationTask       labels   yes      images     2.000    2.000
    torchdistill 1.1.5 KDLoss               labels   not at 0 images     0.062    0.062
    modelopt 0.47.0 LogitsDistillationLoss  teacher  yes      elements   0.100    0.100
    fasterai 0.4.1 SoftTarget               teacher  yes      images     1.000    1.000
    textbrewer 0.2.1.post1 GeneralDistiller both     no       images     0.314    0.062
    trl 1.16.0 generalized_jsd_loss         nothing  no       tokens     0.014    0.013
    vit-pytorch 1.26.14 DistillWrapper      teacher  yes      images     1.000    0.000
With this, every gradient is 1.000 times that of this page, cosine 1.000, and so is the
value but for textbrewer, whose cross-entropy is larger (5.027 and 2.580 times):
    torch         T=T, soft_target_loss_weight=alpha, ce_loss_weight=1 - alpha
    keras         temperature=T, loss=keras.losses.KLDivergence(), and
                  student_loss_weight=1 - alpha
    timm          temperature=T, task_loss_weight=1 - alpha
    torchdistill  temperature=T, alpha=1 - alpha; where that is 0, T**2 times the loss
    modelopt      temperature=T, reduction="batchmean", StaticLossBalancer(alpha)
    fasterai      partial(SoftTarget, T=T), weight=alpha; T is 5 unless told
    textbrewer    kd_loss_weight=alpha * T**2, hard_label_weight=1 - alpha
    trl           T**2 * generalized_jsd_loss(s, t, beta=0.0, temperature=T)
Keras is the largest surprise: by default neither softmax nor T^2, and a cosine of 0.053
(trl 0.953, vit-pytorch 0, the others 1.000). timm as it comes adds both terms, each
with weight 1. vit-pytorch has two heads: its soft labels never reach the one that
answers. PyTorch's tutorial gives NaN if a probability of the teacher is exactly 0.
trl's GKDTrainer has a temperature, and its loss does not look at it.

Beyond the formula, for four that bring a loop: two epochs of four batches. The teacher
has BatchNorm and is given in training mode, as its own training leaves it. Validation
labels are wrong on purpose, so that the last weights are not the best.
Result: every student learns in training mode in both epochs, also after a validation.
keras and fasterai return the last weights, not the best. The teacher's mode:
    keras         evaluation; left frozen; nothing moved
    torchdistill  training, as given; gradients reach it, and it moved by 0.558; with
                  requires_grad=False left frozen, but BatchNorm moved by 0.568
    fasterai      evaluation, and left so; gradients reach it, but nothing moved
    textbrewer    training, as given: BatchNorm moved by 0.568; inside of "with
                  distiller:" evaluation, nothing moved, then training as given

Not shown: that any of these losses makes better or worse students; other options and
releases; the loop of trl.

Seconds: 18 on one core of an AMD EPYC, which other programs used too.
"""

import inspect
import os
import sys
import tempfile
import warnings
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

os.environ["KERAS_BACKEND"] = "torch"  # read by keras when it is imported

import keras
import modelopt.torch.distill as modelopt
import torch
import torch.nn.functional as F
from fastai.vision.all import CrossEntropyLossFlat, DataLoaders, Learner
from fasterai.distill.all import KnowledgeDistillationCallback, SoftTarget
from keras.distillation import Distiller, LogitsDistillation
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
from timm.task import LogitDistillationTask
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset
from torchdistill.core.distillation import DistillationBox
from torchdistill.losses.mid_level import KDLoss
from trl.experimental.gkd import GKDTrainer
from vit_pytorch.distill import DistillableViT, DistillWrapper

sys.path.insert(0, str(Path(__file__).parents[2]))
from kd_mnist import DistillationLoss, StudentMLP, load_small_digits

T = 4.0
torch.manual_seed(0)
STUDENT = 3 * torch.randn(64, 10)
TEACHER = 3 * torch.randn(64, 10)
LABELS = torch.randint(10, (64,))
IMAGES = torch.zeros(64, 1, 28, 28)  # for classes that ask for images
TEXTBREWER = TrainingConfig(device="cpu", output_dir=tempfile.mkdtemp())

# %% The formulas. s: the student's logits; without alpha, the loss is as it comes.


def tutorial_loss(s, alpha=0.25, t=TEACHER, labels=LABELS):
    p = F.softmax(t / T, dim=1)
    log_q = F.log_softmax(s / T, dim=1)
    soft = torch.sum(p * (p.log() - log_q)) / len(s) * T**2
    return alpha * soft + (1 - alpha) * F.cross_entropy(s, labels)


def keras_loss(s, alpha=None):
    options = {} if alpha is None else {"loss": keras.losses.KLDivergence()}
    soft = LogitsDistillation(temperature=T, **options)
    # Two networks that hand on what they get: here the teacher's logits.
    layers = [keras.Input((10,)), keras.layers.Identity()]
    networks = keras.Sequential(layers), keras.Sequential(layers)
    hard_weight = 0.0 if alpha is None else 1 - alpha
    distiller = Distiller(*networks, soft, student_loss_weight=hard_weight)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(loss=hard)
    return distiller.compute_loss(x=TEACHER, y=LABELS, y_pred=s)


def fixed(logits):
    """A network that gives the same logits for every input."""
    network = nn.Module()
    network.forward = lambda images: logits
    # What timm asks of a network; with these, it leaves the grey values alone.
    network.pretrained_cfg = {"mean": (0.0,), "std": (1.0,)}
    network.in_chans, network.num_classes = 1, 10
    return network


def timm_loss(s, alpha=None):
    options = {} if alpha is None else {"task_loss_weight": 1 - alpha}
    options |= {"temperature": T, "verbose": False}
    networks = fixed(s), fixed(TEACHER)
    task = LogitDistillationTask(*networks, nn.CrossEntropyLoss(), **options)
    return task(IMAGES, LABELS)["loss"]


def torchdistill_loss(s, alpha=None):
    hard_weight = 0.0 if alpha is None else 1 - alpha
    loss = KDLoss("net", "output", "net", "output", temperature=T, alpha=hard_weight)
    value = loss({"net": {"output": s}}, {"net": {"output": TEACHER}}, LABELS)
    return T**2 * value if alpha == 1 else value


def modelopt_loss(s, alpha=None):
    options = {} if alpha is None else {"reduction": "batchmean"}
    soft = modelopt.LogitsDistillationLoss(temperature=T, **options)(s, TEACHER)
    losses = {"student_loss": F.cross_entropy(s, LABELS), "soft": soft}
    return modelopt.StaticLossBalancer(1.0 if alpha is None else alpha)(losses)


def fasterai_loss(s, alpha=None):
    options = {} if alpha is None else {"weight": alpha}
    soft = partial(SoftTarget, T=T)
    callback = KnowledgeDistillationCallback(fixed(TEACHER), soft, **options)
    hard = F.cross_entropy(s, LABELS)
    # What it finds in fastai's Learner after the loss on the labels is known.
    callback.learn = SimpleNamespace(x=IMAGES, y=LABELS, pred=s, loss_grad=hard)
    callback.after_loss()
    return callback.learn.loss_grad


def textbrewer_loss(s, alpha=None):
    options = {}
    if alpha is not None:
        options = {"kd_loss_weight": alpha * T**2, "hard_label_weight": 1 - alpha}
    config = DistillationConfig(temperature=T, **options)
    distiller = GeneralDistiller(TEXTBREWER, config, None, None, None, None)
    student = {"logits": [s], "losses": [F.cross_entropy(s, LABELS)]}
    return distiller.compute_loss(student, {"logits": [TEACHER]})[0]


def trl_loss(s, alpha=None):
    options = {} if alpha is None else {"beta": 0.0}
    loss = GKDTrainer.generalized_jsd_loss(s, TEACHER, temperature=T, **options)
    return loss if alpha is None else T**2 * loss


def vit_loss(answer, second):
    """For the logits of its two heads, of which the first one answers."""
    size = {"image_size": 28, "patch_size": 28, "num_classes": 10, "dim": 10}
    student = DistillableViT(**size, depth=1, heads=1, mlp_dim=1)
    student.forward = lambda images, distill_token: (answer, second)
    options = {"student": student, "temperature": T, "alpha": 1.0}
    wrapper = DistillWrapper(teacher=fixed(TEACHER), **options)
    wrapper.distill_mlp = nn.Identity()  # "second" has logits already
    return wrapper(IMAGES, LABELS) + 0 * answer.sum()  # a gradient of 0, not none


def compare(case, alpha, loss):
    """Print how ``loss`` compares with DistillationLoss; return if gradients agree."""
    s = STUDENT.clone().requires_grad_()
    value = loss(s)
    gradient = torch.autograd.grad(value, s)[0]
    page_value = DistillationLoss(T, alpha)(s, TEACHER, LABELS)
    page_gradient = torch.autograd.grad(page_value, s)[0]
    ratio = gradient.norm() / page_gradient.norm()
    cosine = F.cosine_similarity(gradient.flatten(), page_gradient.flatten(), dim=0)
    numbers = f"{value / page_value:7.3f}{ratio:10.3f}{cosine:8.3f}"
    print(f"  {case:22}{alpha:7.2f}{numbers}")
    return abs(ratio - 1) < 1e-3 and cosine > 0.9999


def row(package, default_alpha, loss, alphas=(1.0, 0.3)):
    """Compare a loss as it comes, and then with the line of code. Not at 0.5 only:
    there, a weight of the labels and one of the teacher are the same."""
    print(f"{package} {version(package)}")
    compare("as it comes", default_alpha, loss)
    for alpha in alphas:
        if not compare("to get it", alpha, partial(loss, alpha=alpha)):
            raise SystemExit("this does not give the gradient of this page")


def formulas():
    print("T = 4                     alpha  value  gradient  cosine")
    row("torch", 0.25, tutorial_loss)
    row("keras", 1.0, keras_loss)
    row("timm", 0.5, timm_loss)
    row("torchdistill", 1.0, torchdistill_loss)
    row("nvidia-modelopt", 1.0, modelopt_loss)
    row("fasterai", 0.5, fasterai_loss)
    row("textbrewer", 1.0, textbrewer_loss)
    row("trl", 1.0, trl_loss, alphas=(1.0,))  # it has no labels
    print(f"vit-pytorch {version('vit-pytorch')}")
    compare("the head that answers", 1.0, lambda s: vit_loss(s, STUDENT))
    compare("the other head", 1.0, lambda s: vit_loss(STUDENT, s))

    sure = {"t": torch.tensor([[500.0, 0.0]]), "labels": torch.tensor([0])}
    value = tutorial_loss(torch.zeros(1, 2), **sure)
    print(f"torch, a probability of the teacher exactly 0: {value}")
    named = "temperature" in inspect.getsource(GKDTrainer.compute_loss)
    print(f"trl, GKDTrainer.compute_loss looks at a temperature: {named}")


# %% Beyond the formula: loops of two epochs, each of four batches


class Watch:
    """Notes a network's mode and weights at each batch, and gradients that reach it."""

    def __init__(self, network):
        self.network = network
        self.before = self.latest = self.weights()
        self.modes = ""  # a letter for each batch
        self.gradients = []

    def weights(self):
        """Copies of all weights, and of BatchNorm's means and variances."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        return [x.detach().clone() for x in tensors if x.is_floating_point()]

    def moved(self, before):
        """The largest change of a weight."""
        return max((a - b).abs().max() for a, b in zip(before, self.weights()))

    def note(self, training, logits):
        self.modes += "T" if training else "e"
        self.latest = self.weights()
        if logits.requires_grad:
            logits.register_hook(self.gradients.append)

    def hook(self, last_layer, inputs, logits):
        self.note(last_layer.training, logits)


def report(name, teacher, student, losses=()):
    """Print what two Watches saw; ``losses``: of validation, if there is one."""
    print(f"\n{name}\n  student {student.modes}")
    if losses:
        last = student.moved(student.latest) == 0
        print(f"  last weights {last}; losses {losses[0]:.3f}, {losses[1]:.3f}")
    frozen = not any(x.requires_grad for x in teacher.network.parameters())
    print(f"  teacher {teacher.modes}, gradients {len(teacher.gradients)};", end=" ")
    print(f"then training {teacher.network.training}, frozen {frozen},", end=" ")
    print(f"moved {teacher.moved(teacher.before):.3f}")


def digits():
    """To train on, and to validate on. The latter have wrong labels on purpose: so
    their loss grows, and the last weights are not the best."""
    (images, labels), (more_images, more_labels) = load_small_digits()
    train_set = TensorDataset(images[:64], labels[:64])
    validation_set = TensorDataset(more_images[:32], (more_labels[:32] + 1) % 10)
    return DataLoader(train_set, 16), DataLoader(validation_set, 16)


def new_pair():
    """A teacher with BatchNorm, in training mode as after its own training; a student;
    and a Watch for each."""
    torch.manual_seed(0)
    convolution = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    teacher = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(3136, 10))
    student = StudentMLP(16)
    watches = Watch(teacher), Watch(student)
    for watch in watches:
        watch.network[-1].register_forward_hook(watch.hook)
    return teacher, student, *watches


class Spy(keras.layers.Layer):
    """Hands on the logits, and tells a Watch: in Keras the mode is an argument."""

    watch = None

    def call(self, logits, training=None):
        if self.watch:
            self.watch.note(training, logits)
        return logits


def keras_network(middle):
    spy = Spy()
    first = [keras.Input((1, 28, 28)), keras.layers.Flatten(), keras.layers.Dense(16)]
    network = keras.Sequential([*first, middle, keras.layers.Dense(10), spy])
    spy.watch = Watch(network)
    return network, spy.watch


def keras_loop():
    keras.utils.set_random_seed(0)
    teacher, teacher_watch = keras_network(keras.layers.BatchNormalization())
    student, student_watch = keras_network(keras.layers.ReLU())
    soft = LogitsDistillation(T, loss=keras.losses.KLDivergence())
    distiller = Distiller(teacher, student, soft)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), loss=hard)
    train_batches, validation = digits()
    log = distiller.fit(train_batches, validation_data=validation, epochs=2, verbose=0)
    losses = log.history["val_loss"]
    report("keras, Distiller.fit", teacher_watch, student_watch, losses)


def torchdistill_loop(**teacher_options):
    teacher, student, *watches = new_pair()
    places = {"student_module_path": ".", "student_module_io": "output"}
    places |= {"teacher_module_path": ".", "teacher_module_io": "output"}
    loss = {"key": "KDLoss", "kwargs": {**places, "temperature": T, "alpha": 0.5}}
    terms = {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}}
    batches = {"dataset_id": "train", "kwargs": {"batch_size": 16}}
    batches["sampler"] = {"class_or_func": SequentialSampler}
    config = {
        "num_epochs": 2,
        "train_data_loader": batches,
        "teacher": {"forward_proc": "forward_batch_only", **teacher_options},
        "student": {"forward_proc": "forward_batch_only"},
        "criterion": {"key": "WeightedSumLoss", "kwargs": terms},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.1}},
    }
    data = {"train": digits()[0].dataset}
    cpu = torch.device("cpu")
    box = DistillationBox(teacher, student, data, config, cpu, None, False, 1.0)
    for epoch in range(2):  # the loop that its documentation prescribes
        box.pre_epoch_process(epoch=epoch)
        for images, labels, extra in box.train_data_loader:
            box.post_forward_process(box.forward_process(images, labels, extra))
        box.post_epoch_process()
        student.eval()  # as a validation does
    report(f"torchdistill, DistillationBox, teacher: {teacher_options}", *watches)


def fasterai_loop():
    teacher, student, *watches = new_pair()
    # A small weight: the wrong labels of the validation set must count.
    callback = KnowledgeDistillationCallback(teacher, SoftTarget, weight=0.1)
    data = DataLoaders(*digits())
    learner = Learner(data, student, CrossEntropyLossFlat(), cbs=callback)
    with learner.no_bar(), learner.no_logging():
        learner.fit(2, 0.01)
    losses = [values[1] for values in learner.recorder.values]
    report("fasterai, Learner.fit with the callback", *watches, losses)


def textbrewer_loop(place):
    teacher, student, *watches = new_pair()
    images = digits()[0].dataset.tensors[0]
    batches = DataLoader(TensorDataset(images), 16)
    adaptors = [lambda batch, logits: {"logits": [logits]}] * 2
    config = DistillationConfig(temperature=T)
    distiller = GeneralDistiller(TEXTBREWER, config, teacher, student, *adaptors)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    validate = lambda model, step: model.eval()  # as a validation does
    with distiller if place == "inside" else nullcontext():
        distiller.train(optimizer, batches, num_epochs=2, callback=validate)
    report(f'textbrewer, train {place} of "with distiller:"', *watches)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    formulas()
    print("\nBeyond the formula, by batch: T training, e evaluation")
    keras_loop()
    torchdistill_loop()
    torchdistill_loop(requires_grad=False)
    fasterai_loop()
    textbrewer_loop("outside")
    textbrewer_loop("inside")
