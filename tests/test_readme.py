"""The README: its blocks run, its quotations are the script's, its links lead somewhere."""

import ast
import doctest
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY
from PIL import Image

import kd_mnist

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "kd_mnist.py").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BASH = "".join(text for language, text in BLOCKS if language == "bash")


def blocks(wanted):
    """The texts of all blocks of one language."""
    return [text for language, text in BLOCKS if language == wanted]


@pytest.fixture
def page_world(small_world, monkeypatch):
    """The small world, in which few images are held out."""
    split = kd_mnist.train_test_split

    def small_split(images, labels, test_size, **options):
        n = min(test_size, len(labels) // 3)
        return split(images, labels, test_size=n, **options)

    monkeypatch.setattr(kd_mnist, "train_test_split", small_split)
    monkeypatch.setattr(kd_mnist, "load_small_digits", lambda: small_world)
    for folder in ("first", "second"):  # of the two runs that the page compares
        Path(folder).mkdir()
        Path(folder, "mnist_results.json").write_text('{"errors_saved": [1, 3]}')


@pytest.mark.parametrize("code", blocks("python"))
def test_python_block(page_world, tmp_path, code):
    short = code.replace("range(100)", "range(1)")
    (tmp_path / "block.py").write_text(short, encoding="utf-8")
    runpy.run_path("block.py")


def test_the_prompts_print_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = "\n".join(blocks("pycon"))
    test = doctest.DocTestParser().get_doctest(session, {}, "README.md", None, 0)
    printed = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    assert runner.run(test, out=printed.append).failed == 0, "".join(printed)


def test_quoted_lines_are_the_scripts_own():
    quotations = blocks("py")
    assert len(quotations) == 3
    for quotation in quotations:
        assert f"\n{quotation}" in SCRIPT, quotation


def test_each_definition_is_named():
    for node in ast.parse(SCRIPT).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert re.search(rf"\b{node.name}\b", README), node.name


@pytest.mark.parametrize(
    "command", re.findall(r"^python kd_mnist.py.*$", BASH, re.MULTILINE)
)
def test_command(page_world, monkeypatch, command):
    monkeypatch.setattr(kd_mnist.Figure, "savefig", lambda *_, **__: None)  # takes long
    arguments = shlex.split(command.replace("--runs 5", "--runs 2"))[2:]  # shorter
    kd_mnist.main([*arguments, *TINY, "--device", "cpu"])


def test_the_table_by_hand():
    for T, *shown in re.findall(
        r"^\| (\d+) \| (0\.\d+) \| (0\.\d+) \| (0\.\d+) \|", README, re.MULTILINE
    ):
        powers = np.exp(np.array([8, 4, 2]) / int(T))
        assert [f"{p:.3f}" for p in powers / powers.sum()] == shown


def test_pictures_and_links():
    shown = re.findall(r"!\[(.*?)\]\((.*?)\)", README, re.DOTALL)
    folder = ROOT / ".github" / "pictures"
    assert {ROOT / name for _, name in shown} == set(folder.glob("*"))
    for alternative, name in shown:
        with Image.open(ROOT / name) as picture:
            assert picture.format == "PNG" and picture.width >= 600
        assert len(alternative) > 10 and (ROOT / name).stat().st_size <= 250_000
    titles = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    targets = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
    targets |= set(re.findall(r'id="(.*?)"', README))
    for link in re.findall(r"\]\(([^)]*)\)", README):
        if link.startswith("#"):
            assert link[1:] in targets, link
        elif "://" not in link:
            assert (ROOT / link).exists(), link


def test_the_table_of_claims_has_a_row_for_each_file():
    files = {path.name for path in (ROOT / "tests" / "claims").glob("*.py")}
    rows = re.findall(
        r"^\| \[`?(\w+)`?\]\(tests/claims/(\w+\.py)\) \|", README, re.MULTILINE
    )
    assert {file for _, file in rows} == files - {"common.py"}
    told = ["ten_pairs", "what_else", "soft_labels_changed", "temperature_and_alpha"]
    assert [name for name, _ in rows[:5]] == [*told, "mistakes"]
