"""Killed, interrupted, without room: what has its final name is whole."""

import json
import os
import signal
import subprocess
import sys
import time

import matplotlib.image
import pytest
import torch
import torch.nn.functional as F
from conftest import FILES, ONE_THREAD, ROOT, TINY

import kd_mnist

pytest.importorskip("resource", reason="these tests need a Unix system")
pytestmark = pytest.mark.slow

IMAGES, LABELS = kd_mnist.load_small_digits()[1]

# Imports everything once, then runs the script in forked children, which start at once. It reads
# the seconds until the signal and the signal's number, and answers with the child's exit code.
NURSERY = """
import os, signal, sys, time
import kd_mnist, torch
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
for line in sys.stdin:
    seconds, number = line.split()
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        sys.stdout = open(os.devnull, "w")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            os.write(go, b"!")
            code = kd_mnist.main(sys.argv[1:])
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            code = 99
        os._exit(code)
    os.read(ready, 1)
    started = time.perf_counter()
    time.sleep(float(seconds))
    os.kill(child, int(number))  # still ours if it has ended: nobody has waited for it
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), time.perf_counter() - started, flush=True)
"""


def assert_whole(folder):
    """Each file is complete, and the networks are those of the results beside them."""
    results = folder / "digits_results.json"
    for path in folder.glob("*.*"):
        if path.suffix == ".png":
            assert matplotlib.image.imread(path).ndim == 3
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".pt":
            network = kd_mnist.TeacherCNN() if "teacher" in path.name else kd_mnist.StudentMLP()
            network.load_state_dict(torch.load(path, weights_only=True))
            if results.exists():
                summary = json.loads(results.read_text())[path.stem.removeprefix("digits_")]
                nll = F.cross_entropy(kd_mnist.predict(network, IMAGES), LABELS).item()
                assert nll == pytest.approx(summary["mean"]["nll"], rel=1e-4)


def test_killed_or_interrupted_at_50_points(tmp_path):
    command = [sys.executable, "-c", NURSERY, *TINY, "--out-dir", str(tmp_path)]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    nursery = subprocess.Popen(command, env=environment, text=True, **pipes)

    def run(seconds, number):
        nursery.stdin.write(f"{seconds} {int(number)}\n")
        nursery.stdin.flush()
        code, lasted = nursery.stdout.readline().split()
        return int(code), float(lasted)

    assert run(0, 0)[0] == 0  # signal 0 does nothing: the run ends by itself
    code, whole = run(0, 0)
    assert code == 0 and len(list(tmp_path.iterdir())) == len(FILES)
    killed, interrupted = [], []
    for point in range(25):
        for number, codes in ((signal.SIGKILL, killed), (signal.SIGINT, interrupted)):
            codes.append(run(whole * (point + 0.5) / 25, number)[0])
            assert_whole(tmp_path)
    assert run(0, 0)[0] == 0
    assert_whole(tmp_path)
    _, errors = nursery.communicate()
    assert set(killed) <= {-signal.SIGKILL, 0} and set(interrupted) <= {130, 0}, errors
    assert killed.count(-signal.SIGKILL) > 15 and interrupted.count(130) > 15
    assert errors.count("\nkd_mnist.py: interrupted\n") == interrupted.count(130)
    assert errors.count("Traceback") == errors.count("Exception ignored in")  # by Python itself


@pytest.mark.parametrize("size", [30_000, 90_000])
def test_a_full_disk_leaves_nothing_half_written(alone_in, size):
    limit = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
    limited = ("-c", limit + "runpy.run_path('kd_mnist.py', run_name='__main__')")
    done = alone_in(*TINY, python=limited)
    assert done.returncode == 1
    if size == 30_000:  # for a figure; torch has errors of its own
        assert "kd_mnist.py: error: " in done.stderr and "too large" in done.stderr
        assert done.stderr.count("\n") == 1
    assert [path.name for path in alone_in.folder.iterdir()] == ["kd_mnist.py"]


@pytest.mark.parametrize("name, written", [("draw_figures", 0), ("save", len(FILES))])
def test_an_interruption_does_not_disturb_drawing_and_writing(
    tmp_path, monkeypatch, capsys, name, written
):
    """What has begun ends, then the run does."""
    function, ended = getattr(kd_mnist, name), []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it

    def interrupted(*arguments):
        time.sleep(0.2)  # until the main thread waits
        os.kill(os.getpid(), signal.SIGINT)
        result = function(*arguments)
        ended.append(name)
        return result

    monkeypatch.setattr(kd_mnist, name, interrupted)
    assert kd_mnist.main([*TINY, "--out-dir", str(tmp_path)]) == 130
    assert ended == [name] and len(list(tmp_path.iterdir())) == written
    assert capsys.readouterr().err == "\nkd_mnist.py: interrupted\n"
