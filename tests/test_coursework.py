"""What coursework changes in the file: each edit, made to a copy, trains, saves and loads."""

import json

from conftest import FILES, TINY

BATCHNORM_AND_DROPOUT = {
    "nn.Linear(size, units), nn.ReLU()]": "nn.Linear(size, units), nn.BatchNorm1d(units), "
    "nn.ReLU(), nn.Dropout(0.2)]"
}


def test_an_edited_copy_runs_whole_and_uses_its_teacher_again(alone_in):
    source = alone_in.script.read_text()
    for old, new in BATCHNORM_AND_DROPOUT.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    alone_in.script.write_text(source)
    for arguments in (TINY, (*TINY, "--teacher", "digits_teacher.pt")):
        done = alone_in(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert all((alone_in.folder / f"digits_{file}").is_file() for file in FILES)
        results = json.loads((alone_in.folder / "digits_results.json").read_text())
        assert results["student_distilled"]["runs"][0]["parameters"] == 101_770 + 2 * 128
