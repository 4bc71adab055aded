"""Claim: for one digit, the soft label names the wrong answer of the student alone.

The digit is the most extreme of 62 that only the student alone reads wrong. The soft
label gives the wrong answer a probability of 0.254 at T = 4.

Measured: it is an illustration, made after a default run (python kd_mnist.py, one
teacher, one pair of students, seed 0) in the folder with its three files of weights.
The digit was picked among the test images, for what it shows: see the comment below.
The picture has the digit, and the teacher's probabilities of the ten classes at T = 1,
2, 4 and 20. The white bar is the answer of the student alone.

Result: 62 of 10,000 test images are read wrong by the student alone only, with a
teacher that is right and gives the label more than 0.95. The one in the picture, number
9636, is a 3; the student alone reads a 5. The teacher's probabilities of 3 and 5 are
0.971 and 0.029 at T = 1, 0.845 and 0.147 at T = 2, 0.610 and 0.254 at T = 4, 0.178 and
0.150 at T = 20.

Not shown: that the soft label of this digit, or any like it, made the distilled student
read it. It is a test image, and no student learned from it; as it was picked, it is no
evidence.

Seconds: 6 on one core of an AMD EPYC (Zen 4).

Source: Hinton, Vinyals and Dean (2015), arXiv:1503.02531, sections 1 and 2.
"""

import torch
from common import load_mnist
from matplotlib.figure import Figure

from kd_mnist import StudentMLP, TeacherCNN, predict


def answers(network, file):
    """Logits of a saved network for all test images."""
    network.load_state_dict(torch.load(file, weights_only=True))
    return predict(network, images)


def draw(i):
    """Print and draw the teacher's soft labels of test image ``i``."""
    figure = Figure((10, 2.6), dpi=150, layout="constrained")
    picture, *charts = figure.subplots(1, 5, width_ratios=(1, 1.5, 1.5, 1.5, 1.5))
    picture.imshow(images[i, 0].numpy(), cmap="gray_r")
    picture.set(xticks=[], yticks=[], title=f"label: {labels[i]}")
    picture.set_xlabel(f"alone: {alone[i]}\ndistilled: {distilled[i]}")
    print(f"test image {i}: label {labels[i]}, the student alone reads {alone[i]}")
    colors = ["0.6"] * 10
    colors[alone[i]] = "white"
    for temperature, chart in zip((1, 2, 4, 20), charts):
        p = (teacher_logits[i] / temperature).softmax(0).tolist()
        text = " ".join(f"{k}: {p[k]:.3f}" for k in range(10))
        print(f"teacher's soft label at T = {temperature}: {text}")
        chart.bar(range(10), p, color=colors, edgecolor="black")
        chart.set(xticks=range(10), ylim=(0, 1), title=f"teacher at T = {temperature}")
    figure.savefig("one_digit.png")


images, labels = load_mnist()[1]
teacher_logits = answers(TeacherCNN(), "mnist_teacher.pt")
alone = answers(StudentMLP(), "mnist_student_alone.pt").argmax(1)
distilled = answers(StudentMLP(), "mnist_student_distilled.pt").argmax(1)

# Picked as an illustration, it is no evidence: of the digits that only the student
# alone reads wrong, and of which the teacher is sure, the one whose wrong answer has
# the largest probability in the teacher's soft label at T = 4.
only_alone_wrong = (alone != labels) & (distilled == labels)
teacher_right = teacher_logits.argmax(1) == labels
teacher_sure = teacher_logits.softmax(1).amax(1) > 0.95
candidates = only_alone_wrong & teacher_right & teacher_sure
print("digits that only the student alone reads wrong, with a sure teacher")
print(f"such digits: {candidates.sum()} of {len(labels)}")
if candidates.any():
    soft_labels = (teacher_logits / 4).softmax(1)
    share = soft_labels.gather(1, alone.unsqueeze(1)).squeeze(1)
    share[~candidates] = 0
    draw(share.argmax().item())
else:
    print("There is no such digit, so there is no picture: are the networks trained?")
