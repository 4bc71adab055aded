"""A tool: it shows what the networks of a default run read in a picture of one digit.

    python tests/claims/handwriting.py photo.png another.jpg

Measured: nothing. Start it in the folder with mnist_teacher.pt and
mnist_student_distilled.pt of a default run (python kd_mnist.py); MNIST itself is not
needed. Write one digit, dark on bright paper or the reverse, upright, and cut the photo
so that most of it is paper and the digit fills much of it. The digit is cut out, fitted
into 20x20 pixels and centred by mass in 28x28, as those of MNIST were. If the file says
that the camera was turned, the picture is turned back. Lines on the paper and dark
shadows are read as ink.

Result: none is claimed. Tests check that a drawn seven gives nearly the same image in
another place, a third larger, dark on bright paper, and turned by the camera; and that
a blank picture is said to be blank.

Not shown: how many digits of other writers, pens and cameras would be read
right; that takes many of them. The percentage is what the network says, not how often
it is right.

Seconds: 3, nearly all of it imports.

Source: LeCun, Bottou, Bengio and Haffner (1998), Proc. IEEE 86, section III: how the
digits of MNIST were prepared.
"""

import sys

import numpy as np
import torch
from common import kd_mnist
from PIL import Image, ImageOps
from scipy import ndimage


def read_digit(path):
    """A picture of one digit as MNIST has it: ``(1, 1, 28, 28)``, 0 paper, 1 ink.

    ``OSError`` if it is no picture or a blank one.
    """
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file).convert("L")  # upright, and grey
    picture.thumbnail((200, 200))  # a large photo is made smaller
    grey = np.asarray(picture, dtype=float)
    paper = np.median(grey)  # most of a picture is paper
    ink = abs(grey - paper)
    if ink.max() < 25:
        raise OSError("nothing stands out from the paper")
    ink = ink / ink.max()
    ink = (ink - 0.2).clip(0) / 0.8  # what differs little from the paper is paper
    digit = Image.fromarray((255 * ink).astype(np.uint8))
    digit = digit.crop(digit.getbbox())
    scale = 20 / max(digit.size)
    width = max(1, round(scale * digit.width))
    height = max(1, round(scale * digit.height))
    digit = digit.resize((width, height))
    row, column = ndimage.center_of_mass(np.asarray(digit))
    canvas = Image.new("L", (28, 28))
    canvas.paste(digit, (round(14 - column), round(14 - row)))
    return torch.from_numpy(np.array(canvas)).view(1, 1, 28, 28) / 255


def main(paths):
    """Print what teacher and student read in each of these pictures."""
    if not paths:
        print("How to call it: python tests/claims/handwriting.py photo.png other.jpg")
        return
    teacher = kd_mnist.TeacherCNN()
    teacher.load_state_dict(torch.load("mnist_teacher.pt", weights_only=True))
    student = kd_mnist.StudentMLP()
    weights = torch.load("mnist_student_distilled.pt", weights_only=True)
    student.load_state_dict(weights)
    for path in paths:
        try:
            digit = read_digit(path)
        except OSError as error:
            print(f"{path}: {error}")
            continue
        for name, network in (("student", student), ("teacher", teacher)):
            p = kd_mnist.predict(network, digit)[0].softmax(0)
            print(f"{path}: the {name} reads a {p.argmax()} ({p.max():.1%})")


if __name__ == "__main__":
    main(sys.argv[1:])
