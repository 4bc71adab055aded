"""The file in a notebook: pasted into a cell, and run by %run. Needs nbclient and ipykernel."""

import pytest
from conftest import OFFLINE, ONE_THREAD, TINY

nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel to run this test")
pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel to run this test")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.slow
OWN_FIGURE = (
    '%matplotlib inline\ndraw_curves({"mine": [[3, 2, 1]]}, 1, "epoch", "errors", "my title")'
)


@pytest.mark.parametrize("way", ["pasted", "%run"])
def test_it_runs_and_shows_its_figures(alone_in, monkeypatch, way):
    for name, value in {**OFFLINE, **ONE_THREAD}.items():
        monkeypatch.setenv(name, value)
    source = alone_in.script.read_text()
    quick = source.replace("_epochs=160", "_epochs=1").replace("_epochs=240", "_epochs=1")
    assert quick != source
    cells = [quick, f"main({TINY})", OWN_FIGURE]
    if way == "%run":
        cells = ["%run kd_mnist.py " + " ".join(TINY), OWN_FIGURE]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(alone_in.folder)}}
    nbclient.NotebookClient(notebook, timeout=200, resources=resources).execute()
    *runs, own = notebook.cells
    assert sum("image/png" in output.get("data", {}) for output in own.outputs) == 1
    for cell in runs:
        text = "".join(output.get("text", "") for output in cell.outputs)
        assert "digits_* are in " in text and "interrupted" not in text
