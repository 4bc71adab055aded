"""The file in a notebook: pasted into a cell, and run by %run."""

import pytest
from conftest import ONE_THREAD, TINY

nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.slow
NEXT_CELL = 'print(type(networks[2]), records[1]["errors"])'


@pytest.mark.parametrize("way", ["pasted", "%run"])
def test_figures_are_shown_and_the_next_cell_has_the_networks(
    alone_in, offline, monkeypatch, way
):
    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    cell = "%run kd_mnist.py " + " ".join(TINY)
    if way == "pasted":
        source = alone_in.script.read_text(encoding="utf-8")
        cell = source.replace("default=5,", "default=1,").replace(
            "default=20,", "default=1,"
        )
        assert cell != source
    cells = [nbformat.v4.new_code_cell(text) for text in (cell, NEXT_CELL)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(alone_in.folder)}}
    nbclient.NotebookClient(notebook, timeout=200, resources=resources).execute()
    run, following = notebook.cells
    shown = ["image/png" in output.get("data", {}) for output in run.outputs]
    assert sum(shown) == 3
    text = "".join(output.get("text", "") for output in run.outputs)
    assert "Errors saved by distillation" in text and "digits_*" in text
    assert "StudentMLP" in following.outputs[0]["text"]
