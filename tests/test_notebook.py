"""The file in a notebook: pasted into a cell, and run by %run. Needs nbclient and ipykernel."""

import pytest
from conftest import OFFLINE, ONE_THREAD

nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel to run this test")
pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel to run this test")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("way", ["pasted", "%run"])
def test_it_runs_and_shows_its_figures(alone_in, monkeypatch, way):
    for name, value in {**OFFLINE, **ONE_THREAD}.items():
        monkeypatch.setenv(name, value)
    source = alone_in.script.read_text()
    quick = source.replace("-epochs 160", "-epochs 1").replace("-epochs 240", "-epochs 1")
    assert quick != source
    cells = [quick, 'main(["--dry-run"])']
    if way == "%run":
        cells = ["%run kd_mnist.py --dry-run --dataset digits"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(alone_in.folder)}}
    nbclient.NotebookClient(notebook, timeout=200, resources=resources).execute()
    for cell in notebook.cells:
        assert sum("image/png" in output.get("data", {}) for output in cell.outputs) == 3
        text = "".join(output.get("text", "") for output in cell.outputs)
        assert "Wrote six files" in text and ("NOT MNIST" in text) == (way == "pasted")
