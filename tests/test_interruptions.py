"""Killed, interrupted, without room: what has its final name is whole. And the terminal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import pytest
import torch

from conftest import ROOT

pty = pytest.importorskip("pty", reason="these tests need a Unix system")
resource = pytest.importorskip("resource", reason="these tests need a Unix system")

TINY = ("--dataset", "digits", "--subset", "100", "--teacher-epochs", "1", "--student-epochs", "1")

# Imports everything once, then runs the script in forked children, which start at once. It reads
# the seconds until the signal and the signal's number, and answers with the child's exit code.
NURSERY = """
import os, signal, sys, time
import torch
torch.set_num_threads(1)  # a fork inherits no other thread
import kd_mnist, scipy.stats, seaborn, sklearn.metrics, matplotlib.figure
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
    for path in folder.iterdir():
        if path.suffix == ".png" and not path.name.startswith("."):
            assert matplotlib.image.imread(path).ndim == 3
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)


def test_killed_or_interrupted_at_50_points(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY, *TINY, "--out-dir", str(tmp_path)], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def run(seconds, number):
        nursery.stdin.write(f"{seconds} {number}\n")
        nursery.stdin.flush()
        code, lasted = nursery.stdout.readline().split()
        return int(code), float(lasted)

    code, _ = run(0, 0)  # signal 0 does nothing: the first run ends by itself
    assert code == 0
    code, whole = run(0, 0)
    assert code == 0 and len(list(tmp_path.iterdir())) == 6
    codes = {signal.SIGKILL: [], signal.SIGINT: []}
    for point in range(25):
        for number in codes:
            code, _ = run(whole * (point + 0.5) / 25, int(number))
            codes[number].append(code)
            assert_whole(tmp_path)
    assert run(0, 0)[0] == 0
    assert_whole(tmp_path)
    _, errors = nursery.communicate()
    assert set(codes[signal.SIGKILL]) <= {-signal.SIGKILL, 0}
    assert set(codes[signal.SIGINT]) <= {130, 0}, errors
    interrupted = codes[signal.SIGINT].count(130)
    assert codes[signal.SIGKILL].count(-signal.SIGKILL) > 15 and interrupted > 15
    assert errors.count("\nkd_mnist.py: interrupted\n") == interrupted
    # Python itself reports, and then ignores, an interruption inside a weak reference's callback.
    assert errors.count("Traceback") == errors.count("Exception ignored in")


def test_a_full_disk_is_one_line(alone_in):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = alone_in(*TINY, preexec_fn=little_room)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "digits_student.pt cannot be written: " in done.stderr
    assert [path.name for path in alone_in.folder.iterdir()] == ["kd_mnist.py"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody may write to")
def test_a_read_only_folder_is_one_line_before_any_work(alone_in):
    done = alone_in(*TINY, "--out-dir", "/proc")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kd_mnist.py: error: argument --out-dir: /proc cannot be written")


def test_networks_too_large_for_the_memory_are_one_line(alone_in):
    def little_memory():
        resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30, 6 * 2**30))

    done = alone_in(*TINY, "--student-hidden", *["10000"] * 20, preexec_fn=little_memory)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "not enough memory" in done.stderr


def on_screen(output):
    """The lines that stay on a terminal where ``output`` was written."""
    lines = []
    for line in output.replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_the_progress_line_is_on_terminals_only_and_goes_away(alone_in):
    arguments = ["--dataset", "digits", "--teacher-epochs", "2", "--student-epochs", "2",
                 "--teacher-channels", "200", "200"]  # fmt: skip
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "kd_mnist.py", *arguments], cwd=alone_in.folder, stdout=inside,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    os.close(inside)
    output = b""
    try:
        while part := os.read(terminal, 4096):
            output += part
    except OSError:  # Linux says so at the end of a terminal's output
        pass
    assert process.wait() == 0
    output = output.decode()
    assert " s ..." in output and " of about " in output
    shown = on_screen(output)
    piped = alone_in(*arguments).stdout
    assert "\r" not in piped and " s ..." not in piped
    assert len(shown) == len(piped.split("\n"))
    for seen, line in zip(shown, piped.split("\n")):
        assert re.sub(r"[\d.]+ *", "#", seen)[:20] == re.sub(r"[\d.]+ *", "#", line)[:20]
    assert "seconds are left" in piped


@pytest.mark.parametrize(
    "stage", ["Teacher", "Student alone", "Student distilled", "Distillation:"]
)
def test_ctrl_c_in_each_stage_ends_in_one_line(alone_in, stage):
    process = subprocess.Popen(
        [sys.executable, "kd_mnist.py", "--dataset", "digits", "--teacher-epochs", "5",
         "--student-epochs", "9" if stage == "Distillation:" else "60"],
        cwd=alone_in.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith(stage):
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.strip() == "kd_mnist.py: interrupted"
    names = {path.name for path in alone_in.folder.iterdir()}
    assert names == {"kd_mnist.py"} or stage == "Distillation:"
    assert_whole(alone_in.folder)
