"""Time kd_mnist.py beside the textbook's loop, as whole processes in turn: A B A B ...

    python tests/benchmark.py [--data-dir data] [--pairs 3]

A is textbook.py; B is ``kd_mnist.py --student-epochs 5``. Both train the same teacher for
5 epochs and the same student for 5. B also moves the teacher's images, measures, saves and
draws, and trains the control, whose seconds are subtracted. Run it on a quiet machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def timed(*command):
    """Run a process; its output, its seconds and its peak memory in MB."""
    started = time.perf_counter()
    command = [sys.executable, *map(str, command)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"failed: {command}")
        output.seek(0)
        text = output.read().decode()
    return text, time.perf_counter() - started, usage.ru_maxrss / 1024


def textbook(data_dir, seed):
    """Seconds, peak memory and per cent of right answers of teacher and student."""
    text, seconds, peak = timed(HERE / "textbook.py", data_dir, 5, 5, seed)
    accuracy = json.loads(text.splitlines()[-1])["accuracy"]
    return seconds, peak, 100 * accuracy["teacher"], 100 * accuracy["student"]


def ours(data_dir, seed):
    """The same, without the seconds in which the control was trained."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--dataset", "mnist", "--data-dir", data_dir, "--out-dir", folder]
        options += ["--student-epochs", 5, "--seed", seed]
        _, seconds, peak = timed(HERE.parent / "kd_mnist.py", *options)
        results = (Path(folder) / "mnist_results.json").read_text(encoding="utf-8")
    teacher, alone, distilled = json.loads(results)["records"]
    seconds -= sum(epoch["seconds"] for epoch in alone["history"])
    return seconds, peak, 100 * teacher["accuracy"], 100 * distilled["accuracy"]


def compare(data_dir, pairs):
    """Run the pairs, print each, and the medians."""
    rows = []
    for seed in range(pairs):
        a, b = textbook(data_dir, seed), ours(data_dir, seed)
        rows.append((*a, *b, a[0] / b[0]))
        print(f"pair {seed + 1}: {a[0]:.1f} s, {b[0]:.1f} s, {a[0] / b[0]:.2f} times")
    medians = [statistics.median(column) for column in zip(*rows)]
    print(
        f"\n{f'medians of {pairs}':22}{'seconds':>9}{'MB':>7}{'teacher':>9}{'student':>9}"
    )
    for name, part in (("textbook", medians[:4]), ("kd_mnist.py", medians[4:8])):
        seconds, peak, teacher, student = part
        print(f"{name:22}{seconds:9.1f}{peak:7.0f}{teacher:8.2f}%{student:8.2f}%")
    ratios = [row[-1] for row in rows]
    print(f"ratio {medians[-1]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    compare(args.data_dir, args.pairs)
