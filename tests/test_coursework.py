"""What coursework changes in the file: each edit, made to a copy, trains, saves and predicts."""

import json

import numpy as np
import pytest
from conftest import FILES, TINY
from PIL import Image

BATCHNORM_AND_DROPOUT = {
    "nn.Linear(n_in, n_out), nn.ReLU()]": "nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), "
    "nn.ReLU(), nn.Dropout(0.2)]"
}
CONVOLUTIONAL_STUDENT = {
    "class StudentMLP(nn.Sequential):": '''class StudentMLP(nn.Module):
    """A small convolutional network."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5, stride=3)
        self.linear = nn.Linear(4 * 8 * 8, 10)

    def forward(self, images):
        return self.linear(F.relu(self.conv(images)).flatten(1))


class FormerStudent(nn.Sequential):'''
}
THIRD_CONVOLUTION = {
    "self.linear = nn.Linear(": "self.conv3 = nn.Conv2d(channels[1], channels[1], 3, padding=1)\n"
    "        self.linear = nn.Linear(",
    "return self.linear(x.flatten(1))": "return self.linear(F.relu(self.conv3(x)).flatten(1))",
}
LABEL_SMOOTHING = {
    "temperature=2.0, alpha=0.5)": "temperature=2.0, alpha=0.5, smoothing=0.1)",
    "self.temperature, self.alpha = temperature, alpha": "self.temperature, self.alpha, "
    "self.smoothing = temperature, alpha, smoothing",
    "F.cross_entropy(student_logits, labels)": "F.cross_entropy(student_logits, labels, "
    "label_smoothing=self.smoothing)",
}


@pytest.mark.parametrize(
    "edits, teacher, student",  # with the weights that the networks have then
    [
        (BATCHNORM_AND_DROPOUT, 20_490, 101_770 + 2 * 128),
        pytest.param(CONVOLUTIONAL_STUDENT, 20_490, 104 + 2_570, marks=pytest.mark.slow),
        pytest.param(THIRD_CONVOLUTION, 20_490 + 9_248, 101_770, marks=pytest.mark.slow),
        pytest.param(LABEL_SMOOTHING, 20_490, 101_770, marks=pytest.mark.slow),
    ],
    ids=["BatchNorm and Dropout", "convolutional", "third convolution", "label smoothing"],
)
def test_an_edited_copy_runs_whole_and_predicts(alone_in, edits, teacher, student):
    source = alone_in.script.read_text()
    for old, new in edits.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    alone_in.script.write_text(source)
    picture = np.full((60, 60), 255, np.uint8)
    picture[10:50, 25:32] = 0
    Image.fromarray(picture).save(alone_in.folder / "one.png")

    done = alone_in(*TINY)
    assert (done.returncode, done.stderr) == (0, "")
    assert all((alone_in.folder / f"digits_{file}").is_file() for file in FILES)
    results = json.loads((alone_in.folder / "digits_results.json").read_text())
    assert results["teacher"]["parameters"] == teacher
    assert results["student_distilled"]["parameters"] == student
    done = alone_in("--predict", "one.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("one.png:") and "digits_predictions.png" in done.stdout
