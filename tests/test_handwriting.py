"""--predict: images from anywhere, prepared as MNIST's were, read by the networks of a run."""

import io
import json

import matplotlib.image
import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

import kd_mnist


def seven():
    """Something like a 7, ``(28, 28)`` with ink 1."""
    image = torch.zeros(28, 28)
    image[4:7, 4:20] = 1
    for row in range(7, 24):
        image[row, 24 - row : 28 - row] = 1
    return image


def pasted(digit, scale, paper, ink, top, left):
    """The digit ``(28, 28)`` enlarged, in colours, somewhere on a canvas ``(200, 260, 3)``."""
    big = F.interpolate(digit[None, None], scale_factor=scale, mode="bilinear")[0, 0, :, :, None]
    canvas = torch.tensor(paper).expand(200, 260, 3).clone()
    place = canvas[top : top + len(big), left : left + len(big)]
    place += big.clamp(0, 1) * (torch.tensor(ink) - place)
    return canvas.numpy()


def as_file(picture, kind="PNG", **options):
    """A picture, its values from 0 to 1, as the content of an image file."""
    file = io.BytesIO()
    PIL.Image.fromarray((255 * picture).round().astype(np.uint8)).save(file, kind, **options)
    file.seek(0)
    return file


WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
SEVEN = pasted(seven(), 5, WHITE, BLACK, 30, 40)


@pytest.mark.parametrize("scale", [2, 3, 6])
@pytest.mark.parametrize("paper, ink", [(BLACK, WHITE), ((0.9, 0.8, 0.1), (0.1, 0.2, 0.8))])
def test_place_size_and_colour_do_not_matter(scale, paper, ink):
    expected = kd_mnist.read_digit(as_file(SEVEN))
    moved = kd_mnist.read_digit(as_file(pasted(seven(), scale, paper, ink, 11, 57)))
    assert moved.shape == (1, 1, 28, 28) and 0 <= moved.min() and moved.max() <= 1
    assert (moved - expected).abs().mean() < 0.02  # resampling blurs the edges a little
    assert max(int((moved[0, 0].amax(dim) > 0.2).sum()) for dim in (0, 1)) in (19, 20)
    centre = ndimage.center_of_mass(moved[0, 0].numpy())
    assert centre == pytest.approx((13.5, 13.5), abs=1)
    assert (expected.roll(1, 3) - expected).abs().mean() > 0.04


def test_transparent_backgrounds():
    """Dark on transparent and light on transparent are both seen."""
    opaque, ink = kd_mnist.read_digit(as_file(SEVEN)), 1 - SEVEN[:, :, :1]
    for colour in (BLACK, WHITE):
        see_through = np.concatenate([np.broadcast_to(colour, SEVEN.shape), ink], axis=2)
        assert (kd_mnist.read_digit(as_file(see_through)) - opaque).abs().mean() < 0.02


def test_a_camera_held_sideways():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise to see me upright"
    turned = kd_mnist.read_digit(as_file(np.rot90(SEVEN), "JPEG", quality=95, exif=exif))
    assert (turned - kd_mnist.read_digit(as_file(SEVEN))).abs().mean() < 0.02


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder with the files of a run with unusual widths, and an image."""
    monkeypatch.chdir(tmp_path)
    settings = {"student_hidden": [30, 20], "teacher_channels": [4, 8]}
    (tmp_path / "mnist_results.json").write_text(json.dumps({"settings": settings}))
    torch.save(kd_mnist.StudentMLP((30, 20)).state_dict(), "mnist_student.pt")
    torch.save(kd_mnist.TeacherCNN((4, 8)).state_dict(), "mnist_teacher.pt")
    (tmp_path / "seven.png").write_bytes(as_file(SEVEN).read())
    return tmp_path


def error_of(capsys, *arguments):
    """The one line with which the script gives up."""
    assert kd_mnist.main(["--predict", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("kd_mnist.py: error: ") and error.count("\n") == 1
    return error


def test_predictions_are_printed_and_drawn(trained, capsys):
    (trained / "other.jpg").write_bytes(as_file(1 - SEVEN, "JPEG").read())
    assert kd_mnist.main(["--predict", "seven.png", "other.jpg"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2] == "Wrote mnist_predictions.png"
    networks = {"student": kd_mnist.StudentMLP((30, 20)), "teacher": kd_mnist.TeacherCNN((4, 8))}
    for name, line in zip(("seven.png", "other.jpg"), lines):
        said = [name + ":"]
        for kind, network in networks.items():
            network.load_state_dict(torch.load(f"mnist_{kind}.pt"))
            p = kd_mnist.predict(network, kd_mnist.read_digit(name))[0].softmax(0)
            said += [kind, str(int(p.argmax())), f"({p.max():.1%})"]
        assert line.split() == said
    picture = matplotlib.image.imread(trained / "mnist_predictions.png")
    assert picture.shape[1] == 1500 and picture[..., :3].std() > 0.05


@pytest.mark.parametrize("kind", ["text", "empty", "half", "white", "huge", "missing", "folder"])
def test_a_bad_image_is_one_line(trained, capsys, monkeypatch, kind):
    noise = as_file(np.random.default_rng(0).random((90, 90, 3))).read()
    contents = {"text": b"no image", "empty": b"", "half": noise[:9000], "huge": noise}
    contents["white"] = as_file(np.ones((30, 30, 3))).read()
    if kind in contents:
        (trained / "bad.png").write_bytes(contents[kind])
    if kind == "folder":
        (trained / "bad.png").mkdir()
    if kind == "huge":
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    error_of(capsys, "bad.png")


class Dangerous:
    def __reduce__(self):
        return (open, ("unpickled", "w"))


@pytest.mark.parametrize("content", ["text", [1], Dangerous(), kd_mnist.StudentMLP().state_dict()])
def test_foreign_weights_are_one_line(trained, capsys, content):
    torch.save(content, "mnist_student.pt")
    assert "run the training first" in error_of(capsys, "seven.png")
    assert "digits_*" in error_of(capsys, "seven.png", "--dataset", "digits")
    assert not (trained / "unpickled").exists()


def canvas(image, random):
    """Enlarged, in any two colours that differ, anywhere on a larger picture."""
    paper, ink = random.random((2, 3)).astype(np.float32)
    while np.abs(paper - ink).max() < 0.3:
        ink = random.random(3).astype(np.float32)
    scale, top, left = (int(random.integers(*ends)) for ends in ((1, 7), (0, 30), (0, 90)))
    return as_file(pasted(image, scale, paper, ink, top, left))


def see_through(image, random):
    """Black ink on a transparent background."""
    ink = image[:, :, None].numpy().repeat(4, 0).repeat(4, 1)
    return as_file(np.concatenate([np.zeros((112, 112, 3)), ink], axis=2))


def photograph(image, random):
    """Blue ink on yellowish paper, lit from one side, noisy, as a JPEG."""
    left, angle = int(random.integers(0, 110)), 2 * np.pi * random.random()
    colours = pasted(image, 5, (1.0, 0.97, 0.9), (0.15, 0.2, 0.5), 40, left)
    down, across = np.mgrid[-1 : 1 : 200 * 1j, -1 : 1 : 260 * 1j]
    light = 0.75 + 0.2 * (np.cos(angle) * down + np.sin(angle) * across)
    photo = colours * light[:, :, None] + random.normal(0, 0.02, colours.shape)
    return as_file(photo.clip(0, 1), "JPEG")


@pytest.mark.slow
def test_test_images_are_read_as_the_originals(mnist_dir):
    """By a student of four epochs, which is enough to tell digits apart."""
    train_set, (images, labels) = kd_mnist.load_mnist(mnist_dir)
    torch.manual_seed(0)
    student = kd_mnist.StudentMLP()
    kd_mnist.train(student, train_set, (images[:500], labels[:500]), epochs=4)
    for draw, n, least in ((canvas, 300, 0.95), (see_through, 100, 0.95), (photograph, 100, 0.85)):
        random, same = np.random.default_rng(1), 0
        for image in kd_mnist.to_float(images[:n, 0]):
            both = torch.cat([kd_mnist.read_digit(draw(image, random)), image[None, None]])
            same += len(kd_mnist.predict(student, both).argmax(1).unique()) == 1
        print(f"{draw.__name__}: {same / n:.1%} of {n} read as the original")
        assert same / n >= least
