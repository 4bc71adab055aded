"""Time kd_mnist.py beside the textbook's loop, as whole processes in turn: A B A B ...

    python tests/benchmark.py [--data-dir data] [--pairs 3] [--bf16 0]

A is textbook.py, B ``kd_mnist.py --student-epochs 5 --teacher-shift 0``. Both train the same teacher
for 5 epochs and the same student for 5; B also trains the control, measures shifted images, saves
and draws. ``--pairs N`` pairs have seeds 0 to N - 1. Run it by hand on a quiet machine.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
STAGES = ("imports", "data", "teacher", "logits", "student", "control", "evaluation", "saving")
WATCHED = {"load_data": "data", "train": "student", "soft_labels": "logits"}
WATCHED |= dict.fromkeys(("predict", "summarize"), "evaluation")
WATCHED |= dict.fromkeys(("draw_figures", "save"), "saving")


def worker_textbook(arguments):
    """Run textbook.py in this process, its imports timed."""
    started = time.perf_counter()
    import textbook

    textbook.main(*arguments, imports=time.perf_counter() - started)


def worker_ours(arguments):
    """Run kd_mnist.py in this process, stopwatches around its functions, and print their sums."""
    started = time.perf_counter()
    import kd_mnist

    clock = time.perf_counter()
    seconds, stack = dict.fromkeys((*STAGES, "other"), 0.0), ["other"]
    seconds["imports"] = clock - started

    def switch():
        nonlocal clock
        now = time.perf_counter()
        seconds[stack[-1]] += now - clock
        clock = now

    def watch(name, stage):
        function = getattr(kd_mnist, name)

        def watched(*args, **options):
            switch()
            if name == "train" and isinstance(args[0], kd_mnist.TeacherCNN):
                stack.append("teacher")
            elif name == "train" and options["teacher_logits"] is None:
                stack.append("control")
            else:  # the teacher's predictions for its soft labels are no evaluation
                stack.append("logits" if stack[-1] == "logits" else stage)
            try:
                return function(*args, **options)
            finally:
                switch()
                stack.pop()

        setattr(kd_mnist, name, watched)

    for name, stage in WATCHED.items():
        watch(name, stage)
    with tempfile.TemporaryDirectory() as folder:
        code = kd_mnist.main([*arguments, "--dataset", "mnist", "--out-dir", folder])
        switch()
        results = json.loads((Path(folder) / "mnist_results.json").read_text())
    models = {"teacher": results["teacher"], "student": results["student_distilled"]}
    models = {name: summary["runs"][0] for name, summary in models.items()}
    report = {"stages": seconds, "accuracy": {m: models[m]["accuracy"] for m in models}}
    report["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report["epochs"] = [[e["seconds"] for e in result["history"]] for result in models.values()]
    print(json.dumps(report))
    return code


def timed(program, *arguments):
    """Run a process; its last line of output as JSON, with the seconds that it took in all."""
    started = time.perf_counter()
    command = [sys.executable, __file__, program, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"total": time.perf_counter() - started}


def spread(values):
    return f"{statistics.median(values):7.2f} ({min(values):.2f} to {max(values):.2f})"


def row(name, columns):
    print(f"{name:14}{columns[0]:>24}{columns[1]:>24}")


def compare(data_dir, pairs, options):
    """The two programs in turn, stage by stage, and the ratio pair by pair."""
    a, b = [], []
    for seed in range(pairs):
        a.append(timed("textbook", data_dir, 5, 5, seed))
        settings = ("--student-epochs", 5, "--teacher-shift", 0, "--seed", seed)
        b.append(timed("ours", *options, *settings))
        totals, ratio = (a[-1]["total"], b[-1]["total"]), a[-1]["total"] / b[-1]["total"]
        line = "pair {}: textbook {:.1f} s, kd_mnist.py {:.1f} s, ratio {:.2f}"
        print(line.format(seed + 1, *totals, ratio), flush=True)

    print(f"\nseconds: median (min to max) of {pairs}")
    row("", ["textbook", "kd_mnist.py"])
    for stage in (*STAGES, "other", "total"):
        seconds = [[run["stages"].get(stage, run.get(stage, 0)) for run in part] for part in (a, b)]
        row(stage, [spread(part) for part in seconds])
    for name in ("teacher", "student"):
        percent = [[100 * run["accuracy"][name] for run in column] for column in (a, b)]
        sds = [statistics.stdev(p) if pairs > 1 else 0 for p in percent]
        shown = [f"{statistics.mean(p):.2f} ± {sd:.2f}" for p, sd in zip(percent, sds)]
        row(f"{name} %", shown)
    row("peak MB", [f"{max(run['peak_mb'] for run in part):.0f}" for part in (a, b)])
    x, y = (statistics.median(run["stages"]["student"] / 5 for run in part) for part in (a, b))
    print(f"{'student epoch':14}{x:>24.2f}{y:>24.2f}   ratio {x / y:.1f}")
    print(f"ratio of the totals: {spread([x['total'] / y['total'] for x, y in zip(a, b)]).strip()}")


if __name__ == "__main__":
    workers = {"textbook": worker_textbook, "ours": worker_ours}
    if sys.argv[1:] and sys.argv[1] in workers:
        sys.exit(workers[sys.argv[1]](sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--bf16", default="1", help="option of kd_mnist.py")
    args = parser.parse_args()
    options = ["--data-dir", args.data_dir, "--bf16", args.bf16]
    compare(args.data_dir, args.pairs, options)
