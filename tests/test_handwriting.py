"""--predict: images from anywhere, prepared as MNIST was, and checkpoints of every kind."""

import os

import matplotlib.font_manager
import matplotlib.image
import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import kd_mnist


def rendered(digit, font, size=120, ink="black", paper="white"):
    """A digit in a font as a picture ``(H, W, 3)`` of bytes."""
    figure = Figure(figsize=(2, 2.4), dpi=100, facecolor=paper)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.5, 0.45, str(digit), family=font, size=size, color=ink, ha="center", va="center")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def blob():
    """Something like a 7, ``(28, 28)`` with ink 1, inside 20x20, its centre of mass central."""
    image = torch.zeros(28, 28)
    image[4:7, 4:20] = 1
    for row in range(7, 24):
        image[row, 24 - row : 28 - row] = 1
    return image


def pasted(digit, scale, paper, ink, top, left, mode="nearest"):
    """The digit ``(28, 28)`` enlarged, in colours, somewhere on a large canvas ``(3, H, W)``."""
    big = F.interpolate(digit[None, None], scale_factor=scale, mode=mode)[0, 0].clamp(0, 1)
    paper, ink = (torch.tensor(colour)[:, None, None] for colour in (paper, ink))
    canvas = paper.expand(3, 200, 260).clone()
    n = big.shape[0]
    canvas[:, top : top + n, left : left + n] = paper * (1 - big) + ink * big
    return canvas


@pytest.mark.parametrize("scale", [1, 3, 6])
@pytest.mark.parametrize(
    "paper, ink",
    [((0.0, 0, 0), (1.0, 1, 1)), ((1.0, 1, 1), (0.0, 0, 0)), ((0.9, 0.8, 0.1), (0.1, 0.2, 0.8)),
     ((0.5, 0.5, 0.5), (0.5, 0.5, 0.9))],
)  # fmt: skip
def test_place_size_and_colour_do_not_matter(scale, paper, ink):
    expected = kd_mnist.prepare_digit(blob().expand(3, 28, 28))
    moved = kd_mnist.prepare_digit(pasted(blob(), scale, paper, ink, 11, 57))
    assert moved.shape == (1, 28, 28) and 0 <= moved.min() and moved.max() <= 1
    difference = (moved - expected).abs().mean()  # resampling blurs the edges a little
    assert difference < 0.035 < (expected.roll(1, 2) - expected).abs().mean()


def test_the_digit_fills_20_pixels_around_its_centre_of_mass():
    digit = kd_mnist.prepare_digit(pasted(blob(), 5, (1.0, 1, 1), (0.2, 0.2, 0.2), 30, 40))[0]
    rows, columns = (digit > 0.2).any(1).nonzero(), (digit > 0.2).any(0).nonzero()
    assert max(rows.max() - rows.min(), columns.max() - columns.min()) + 1 in (19, 20)
    for dim in (0, 1):
        centre = (digit.sum(1 - dim) * torch.arange(28)).sum() / digit.sum()
        assert centre == pytest.approx(14, abs=0.6)


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 300), (3, 300, 1), (3, 40, 40)])
def test_an_empty_image_is_refused(shape):
    with pytest.raises(ValueError, match="stands out"):
        kd_mnist.prepare_digit(torch.full(shape, 0.7))


@pytest.fixture
def trained_dir(tmp_path):
    torch.manual_seed(0)
    torch.save(kd_mnist.StudentMLP((30, 20)).state_dict(), tmp_path / "mnist_student.pt")
    torch.save(kd_mnist.TeacherCNN((4, 8)).state_dict(), tmp_path / "mnist_teacher.pt")
    matplotlib.image.imsave(tmp_path / "three.png", rendered(3, "DejaVu Sans"))
    return tmp_path


def predict(folder, *images):
    return kd_mnist.main(["--out-dir", str(folder), "--predict", *map(str, images)])


def test_predictions_are_printed_and_drawn(trained_dir, capsys):
    dark = rendered(5, "DejaVu Serif", ink="#ffff80", paper="#203060")
    matplotlib.image.imsave(trained_dir / "five.jpg", dark)
    assert predict(trained_dir, trained_dir / "three.png", trained_dir / "five.jpg") == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4 and "trained on MNIST" in out[0]
    for line, name in zip(out[1:], ("three.png", "five.jpg")):
        assert name in line and line.count("%") == 4 and "teacher: " in line
    picture = matplotlib.image.imread(trained_dir / "mnist_predictions.png")
    assert picture.shape[:2] == (430, 1000) and picture[..., :3].std() > 0.05


def test_without_the_teacher_the_student_answers_alone(trained_dir, capsys):
    (trained_dir / "mnist_teacher.pt").unlink()
    assert predict(trained_dir, trained_dir / "three.png") == 0
    assert "teacher:" not in capsys.readouterr().out


def test_a_bad_image_does_not_stop_the_others(trained_dir, capsys):
    (trained_dir / "text.png").write_text("not an image")
    (trained_dir / "nothing.png").touch()
    matplotlib.image.imsave(trained_dir / "white.png", np.full((30, 30, 3), 255, np.uint8))
    bad = [trained_dir / name for name in ("text.png", "white.png", "missing.png", "nothing.png")]
    assert predict(trained_dir, *bad, trained_dir / "three.png", trained_dir) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 5 and captured.out.count("three.png") == 1
    assert all(path.name in captured.err for path in bad)


def test_an_image_of_absurd_size_is_one_line(trained_dir, capsys, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    assert predict(trained_dir, trained_dir / "three.png") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "three.png: cannot be read as a digit" in error


def test_a_cameras_picture_is_made_smaller(tmp_path):
    small = rendered(3, "DejaVu Sans")
    matplotlib.image.imsave(tmp_path / "small.png", small)
    matplotlib.image.imsave(tmp_path / "large.png", small.repeat(9, axis=0).repeat(9, axis=1))
    seen = [kd_mnist.read_image(tmp_path / f"{size}.png") for size in ("small", "large")]
    assert max(seen[1].shape) == 1000
    small, large = map(kd_mnist.prepare_digit, seen)
    assert (small - large).abs().mean() < 0.01


def test_transparent_backgrounds(trained_dir):
    """Dark on transparent and light on transparent are both seen."""
    mask = 255 - rendered(3, "DejaVu Sans")[..., :1]
    seen = []
    for colour in (0, 255):
        rgba = np.concatenate([np.full_like(mask, colour)] * 3 + [mask], axis=-1)
        matplotlib.image.imsave(trained_dir / "see_through.png", rgba)
        seen.append(kd_mnist.prepare_digit(kd_mnist.read_image(trained_dir / "see_through.png")))
    opaque = kd_mnist.prepare_digit(kd_mnist.read_image(trained_dir / "three.png"))
    for digit in seen:
        assert (digit - opaque).abs().mean() < 0.02


class Dangerous:
    def __reduce__(self):
        return (open, ("unpickled", "w"))


@pytest.mark.parametrize(
    "content", ["foreign", "text", "empty", "dangerous", "other weights", "list"]
)
def test_a_foreign_checkpoint_is_one_line(trained_dir, capsys, content, monkeypatch):
    monkeypatch.chdir(trained_dir)
    path = trained_dir / "mnist_student.pt"
    path.write_text("hello" if content == "text" else "")
    things = {"foreign": torch.nn.Linear(3, 4).state_dict(), "dangerous": Dangerous(), "list": [1],
              "other weights": {"0.weight": torch.zeros(3)}}  # fmt: skip
    if content in things:
        torch.save(things[content], path)
    assert predict(trained_dir, trained_dir / "three.png") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "mnist_student.pt holds no network" in error
    assert not (trained_dir / "unpickled").exists()


def test_the_networks_saved_last_answer(trained_dir, capsys):
    torch.save(kd_mnist.StudentMLP((5,)).state_dict(), trained_dir / "digits_student.pt")
    for latest, other in (("mnist", "digits"), ("digits", "mnist")):
        os.utime(trained_dir / f"{latest}_student.pt", (0, 200))
        os.utime(trained_dir / f"{other}_student.pt", (0, 100))
        assert predict(trained_dir, trained_dir / "three.png") == 0
        assert f"{latest}_predictions.png" in capsys.readouterr().out
    assert predict(trained_dir, trained_dir / "three.png", "--dataset", "mnist") == 0
    assert "trained on MNIST" in capsys.readouterr().out


def test_a_missing_folder_is_not_made(tmp_path, capsys):
    with pytest.raises(SystemExit):
        predict(tmp_path / "typo", "three.png")
    assert "typo is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_a_missing_checkpoint_says_what_to_do(trained_dir, capsys):
    (trained_dir / "mnist_student.pt").unlink()
    assert predict(trained_dir, trained_dir / "three.png") == 1
    assert "train first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "model",
    [kd_mnist.StudentMLP((7,)), kd_mnist.StudentMLP((9, 8, 7)), kd_mnist.TeacherCNN((3, 5)),
     kd_mnist.TeacherMLP((6, 5)), kd_mnist.TeacherMLP((4,))],
)  # fmt: skip
def test_any_width_is_read_from_the_checkpoint(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "any.pt")
    loaded, images = kd_mnist.load_checkpoint(tmp_path / "any.pt"), torch.rand(4, 1, 28, 28)
    assert type(loaded) is type(model)
    assert torch.equal(kd_mnist.predict(loaded, images), kd_mnist.predict(model, images))


@pytest.fixture(scope="session")
def student(mnist_dir):
    """A student trained for four epochs, which is enough to tell digits apart."""
    train_set, test_set = kd_mnist.load_mnist(mnist_dir)
    torch.manual_seed(0)
    student = kd_mnist.StudentMLP()
    kd_mnist.train(student, train_set, (test_set[0][:500], test_set[1][:500]), epochs=4)
    return student, test_set


def test_test_images_on_coloured_canvases_are_read_as_the_originals(student):
    model, (images, _) = student
    random, same = np.random.default_rng(0), []
    for image in kd_mnist.ink(images[:500, 0]):
        paper, ink = random.random((2, 3)).astype(np.float32)
        while np.abs(paper - ink).max() < 0.3:
            ink = random.random(3).astype(np.float32)
        scale, top, left = random.integers(1, 7), random.integers(0, 30), random.integers(0, 90)
        canvas = pasted(image, int(scale), paper.tolist(), ink.tolist(), top, left, "bilinear")
        seen = kd_mnist.prepare_digit((canvas * 255).round() / 255)
        both = kd_mnist.predict(model, torch.stack([seen, image[None]])).argmax(1)
        same.append(bool(both[0] == both[1]))
    assert np.mean(same) >= 0.97


@pytest.mark.parametrize("vignette", [0, 0.3])
def test_photographs_in_uneven_light_are_read_as_the_originals(student, vignette, tmp_path):
    """Blue ink on yellowish paper, lit from one side or darker at the corners, noisy, as a JPEG."""
    model, (images, _) = student
    random, same = np.random.default_rng(0), []
    down, across = np.mgrid[-1 : 1 : 200 * 1j, -1 : 1 : 260 * 1j]
    for image in kd_mnist.ink(images[:200, 0]):
        drawn = pasted(image, 5, (0.0,) * 3, (1.0,) * 3, 40, random.integers(0, 110), "bilinear")
        drawn = drawn.permute(1, 2, 0).numpy()
        colour = np.array([1, 0.97, 0.9]) * (1 - drawn) + np.array([0.15, 0.2, 0.5]) * drawn
        angle = random.random() * 2 * np.pi
        light = 0.75 + 0.2 * (np.cos(angle) * down + np.sin(angle) * across)
        light = (light - vignette * (down**2 + across**2) / 2)[..., None]
        photo = (colour * light + random.normal(0, 0.02, colour.shape)).clip(0, 1)
        matplotlib.image.imsave(tmp_path / "photo.jpg", photo)
        seen = kd_mnist.prepare_digit(kd_mnist.read_image(tmp_path / "photo.jpg"))
        both = kd_mnist.predict(model, torch.stack([seen, image[None]])).argmax(1)
        same.append(bool(both[0] == both[1]))
    assert np.mean(same) >= 0.97


def test_digits_in_several_fonts(student, tmp_path):
    model, _ = student
    right = []
    for font in ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "STIXGeneral"):
        for digit in range(10):
            matplotlib.image.imsave(tmp_path / "digit.png", rendered(digit, font))
            image = kd_mnist.prepare_digit(kd_mnist.read_image(tmp_path / "digit.png"))
            right.append(int(kd_mnist.predict(model, image[None]).argmax()) == digit)
    assert np.mean(right) >= 0.6  # print is not handwriting; chance is 0.1
    print(f"{np.mean(right):.0%} of the printed digits are read")
