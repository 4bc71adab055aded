"""What coursework changes in the file: each edit, made to a copy, trains, saves and loads."""

import json

import pytest
from conftest import FILES, TINY

BATCHNORM_AND_DROPOUT = {
    "nn.Linear(n_in, n_out), nn.ReLU()]": "nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), "
    "nn.ReLU(), nn.Dropout(0.2)]"
}
CONVOLUTIONAL_STUDENT = {
    "class StudentMLP(nn.Sequential):": '''class StudentMLP(nn.Module):
    """A small convolutional network."""

    def __init__(self, *sizes):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5, stride=3)
        self.linear = nn.Linear(4 * 8 * 8, 10)

    def forward(self, images):
        return self.linear(F.relu(self.conv(images)).flatten(1))


class FormerStudent(nn.Sequential):'''
}


@pytest.mark.parametrize(
    "edits, student",  # with the weights that it has then
    [
        (BATCHNORM_AND_DROPOUT, 101_770 + 2 * 128),
        pytest.param(CONVOLUTIONAL_STUDENT, 104 + 2_570, marks=pytest.mark.slow),
    ],
)
def test_an_edited_copy_runs_whole_and_uses_its_teacher_again(alone_in, edits, student):
    source = alone_in.script.read_text()
    for old, new in edits.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    alone_in.script.write_text(source)
    for arguments in (TINY, (*TINY, "--teacher", "digits_teacher.pt")):
        done = alone_in(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert all((alone_in.folder / f"digits_{file}").is_file() for file in FILES)
        results = json.loads((alone_in.folder / "digits_results.json").read_text())
        assert results["student_distilled"]["runs"][0]["parameters"] == student
