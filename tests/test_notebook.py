"""The file in a notebook: pasted into a cell, and run by %run. Needs nbclient and ipykernel."""

import pytest

from conftest import ROOT

nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel to run this test")
pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel to run this test")
nbformat = pytest.importorskip("nbformat")


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs cells in a fresh kernel, cut off from the network; the outputs of each cell."""
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")

    def execute(*cells):
        cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
        notebook = nbformat.v4.new_notebook(cells=cells)
        resources = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
        return [cell.outputs for cell in notebook.cells]

    return execute


def pictures(outputs):
    return sum("image/png" in output.get("data", {}) for output in outputs)


def text(outputs):
    return "".join(output.get("text", "") for output in outputs)


def test_pasted_into_a_cell_it_runs_and_shows_its_figures(execute, tmp_path):
    source = (ROOT / "kd_mnist.py").read_text()
    quick = source.replace('"digits": (40, 800)', '"digits": (1, 2)')
    assert quick != source
    again = (
        'main(["--dataset", "digits", "--subset", "120", "--student-epochs", "1", "--no-control"])'
    )
    pasted, called = execute(quick, again)
    assert pictures(pasted) == pictures(called) == 3
    assert "To change settings: main([" in text(pasted) and "NOT MNIST" in text(pasted)
    assert (tmp_path / "digits_confusion_matrix.png").exists()


def test_percent_run(execute, tmp_path):
    (tmp_path / "kd_mnist.py").write_bytes((ROOT / "kd_mnist.py").read_bytes())
    (outputs,) = execute("%run kd_mnist.py --dry-run --dataset digits")
    assert pictures(outputs) == 3 and "This was a dry run" in text(outputs)
