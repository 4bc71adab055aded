"""Digits of one's own are prepared as those of MNIST were."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLAIMS = Path(__file__).parent / "claims"


@pytest.fixture
def read_digit(tmp_path, monkeypatch):
    """The function of the experiment, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(CLAIMS)
    return runpy.run_path(str(CLAIMS / "handwriting.py"))["read_digit"]


def test_handwriting_is_prepared_as_mnist_was(read_digit):
    """Place, size, brightness and the camera's rotation do not matter."""
    seven = np.zeros((28, 28), np.uint8)
    seven[4:7, 4:20] = 255
    for row in range(7, 24):
        seven[row, 24 - row : 28 - row] = 255
    paper = np.full((200, 260), 240, np.uint8)
    paper[20:132, 90:202] -= seven.repeat(4, 0).repeat(4, 1) // 255 * 200
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise to see me upright"
    Image.fromarray(seven.repeat(3, 0).repeat(3, 1)).save("photo.png")
    Image.fromarray(paper).save("larger.png")
    Image.fromarray(np.rot90(paper)).save("turned.jpg", quality=95, exif=exif)
    expected = read_digit("photo.png")
    assert expected.shape == (1, 1, 28, 28)
    assert expected.max() <= 1 and expected.sum() > 20
    one_pixel = (expected.roll(1, 3) - expected).abs().mean()
    for file in ("larger.png", "turned.jpg"):
        assert (read_digit(file) - expected).abs().mean() < 0.6 * one_pixel


def test_blank_picture_is_said_in_one_line(read_digit):
    Image.new("L", (50, 50), 200).save("blank.png")
    with pytest.raises(OSError, match="nothing stands out from the paper"):
        read_digit("blank.png")
