"""Time kd_mnist.py beside the textbook's loop, as whole processes in turn: A B A B ...

    python tests/benchmark.py [--data-dir data] [--pairs 3] [--bf16 none]

A is textbook.py, B is ``kd_mnist.py --student-epochs 5 --no-control``, which also draws figures.
Both train the same teacher for 5 epochs and the same student for 5. ``--pairs N`` pairs have seeds
0 to N - 1, so that 5 pairs compare the accuracies too. Run it by hand on a quiet machine.
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
STAGES = (
    "imports", "data", "trial", "teacher", "logits", "student", "evaluation", "figures", "other"
)  # fmt: skip


def worker(arguments):
    """Run kd_mnist.py in this process, stopwatches around its functions, and print their sums."""
    started = time.perf_counter()
    sys.path.insert(0, str(HERE.parent))
    import kd_mnist

    seconds, stack = dict.fromkeys(STAGES, 0.0), ["other"]
    seconds["imports"] = time.perf_counter() - started
    clock = time.perf_counter()

    def switch(stage=None):
        nonlocal clock
        now = time.perf_counter()
        seconds[stack[-1]] += now - clock
        clock = now
        stack.append(stage) if stage else stack.pop()

    def watch(name, stage):
        function = getattr(kd_mnist, name)

        def watched(*args, **options):
            model = args[0].__class__.__name__ if args else ""
            trained = "teacher" if model.startswith("Teacher") else "student"
            switch(stage or ("trial" if stack[-1] == "trial" else trained))
            try:
                return function(*args, **options)
            finally:
                switch()

        setattr(kd_mnist, name, watched)

    watch("train", None)
    for name, stage in (
        ("load_data", "data"), ("foresee", "trial"), ("soft_labels", "logits"),
        ("evaluate", "evaluation"), ("cost", "evaluation"), ("draw_confusion", "figures"),
        ("draw_curves", "figures"), ("draw_soft_labels", "figures"), ("write_whole", "figures"),
    ):  # fmt: skip
        watch(name, stage)
    predict = kd_mnist.predict

    def watched_predict(*args, **options):
        stage = "logits" if stack[-1] == "logits" else "evaluation"
        switch(stage)
        try:
            return predict(*args, **options)
        finally:
            switch()

    kd_mnist.predict = watched_predict
    with tempfile.TemporaryDirectory() as folder:
        code = kd_mnist.main([*arguments, "--dataset", "mnist", "--out-dir", folder])
        switch()
        results = json.loads((Path(folder) / "mnist_results.json").read_text())
    accuracy = {m: results[f"{m}"]["accuracy"] for m in ("teacher", "student_distilled")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    epoch_seconds = [
        [e["seconds"] for e in results[m]["history"]] for m in ("teacher", "student_distilled")
    ]
    print(json.dumps({
        "stages": seconds, "peak_mb": peak, "epochs": epoch_seconds,
        "accuracy": {"teacher": accuracy["teacher"], "student": accuracy["student_distilled"]},
    }))  # fmt: skip
    return code


def timed(*command):
    """Run a process; its last line of output as JSON, with the seconds that it took in all."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1]) | {"total": seconds}


def ours(data_dir, *options):
    return timed(__file__, "--worker", "--data-dir", data_dir, "--no-control", *options)


def spread(values):
    return f"{statistics.median(values):7.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(data_dir, pairs, options):
    """The two programs in turn, stage by stage, and the ratio pair by pair."""
    a, b = [], []
    for seed in range(pairs):
        a.append(timed(HERE / "textbook.py", data_dir, 5, 5, seed))
        b.append(ours(data_dir, "--student-epochs", "5", "--seed", str(seed), *options))
        ratio = a[-1]["total"] / b[-1]["total"]
        print(f"pair {seed + 1}: textbook {a[-1]['total']:.1f} s, "
              f"kd_mnist.py {b[-1]['total']:.1f} s, ratio {ratio:.2f}", flush=True)  # fmt: skip
    print(f"\nseconds: median (min to max) of {pairs}\n{'':14}{'textbook':>24}{'kd_mnist.py':>24}")
    for stage in (*STAGES, "total"):
        columns = [[run["stages"].get(stage, run.get(stage, 0)) for run in runs] for runs in (a, b)]
        print(f"{stage:14}{spread(columns[0]):>24}{spread(columns[1]):>24}")
    for name in ("teacher", "student"):
        columns = [[100 * run["accuracy"][name] for run in runs] for runs in (a, b)]
        sds = [statistics.stdev(c) if pairs > 1 else 0 for c in columns]
        means = [f"{statistics.mean(c):.2f} ± {sd:.2f}" for c, sd in zip(columns, sds)]
        print(f"{name + ' %':14}{means[0]:>24}{means[1]:>24}")
    peaks = [f"{max(run['peak_mb'] for run in runs):.0f}" for runs in (a, b)]
    print(f"{'peak MB':14}{peaks[0]:>24}{peaks[1]:>24}")
    epochs = [statistics.median(run["stages"]["student"] / 5 for run in runs) for runs in (a, b)]
    print(
        f"{'student epoch':14}{epochs[0]:>24.2f}{epochs[1]:>24.2f}"
        f"   ratio {epochs[0] / epochs[1]:.1f}"
    )
    ratios = [x["total"] / y["total"] for x, y in zip(a, b)]
    print(f"ratio of the totals: {spread(ratios).strip()}")


def growth(data_dir, options):
    """Seconds of the student stage and peak memory as one setting grows."""
    print(f"\n{'growth':22}{'student seconds':>16}{'peak MB':>9}")
    for flag, values in (("--runs", (1, 2, 4)), ("--student-epochs", (5, 10, 20)),
                         ("--student-hidden", (128, 256, 512, 1024))):  # fmt: skip
        for value in values:
            short = ("--teacher-epochs", "1", "--student-epochs", "5")
            run = ours(data_dir, *short, flag, str(value), *options)
            print(
                f"{flag:17}{value:5}{run['stages']['student']:16.2f}{run['peak_mb']:9.0f}",
                flush=True,
            )


def efficiency(data_dir, options):
    """The machine's matrix-multiply rate, and what the training steps make of it."""
    sys.path.insert(0, str(HERE.parent))
    import torch
    import torch.nn.functional as F
    from torch.utils.flop_counter import FlopCounterMode

    import kd_mnist

    a = torch.rand(2048, 2048)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    rate = 2 * 2048**3 / statistics.median(seconds)
    print(
        f"\nmatrix multiply, float32, 2048: {rate / 1e9:.0f} GFLOP/s, "
        f"{torch.get_num_threads()} threads"
    )
    run = ours(data_dir, "--student-epochs", "5", *options)
    for model, epochs in zip((kd_mnist.TeacherCNN(), kd_mnist.StudentMLP()), run["epochs"]):
        with FlopCounterMode(display=False) as counter:
            F.cross_entropy(
                model(torch.rand(128, 1, 28, 28)), torch.zeros(128, dtype=int)
            ).backward()
        reached = counter.get_total_flops() / 128 * 60_000 / statistics.median(epochs)
        print(f"{type(model).__name__}: training reaches {reached / 1e9:.0f} GFLOP/s, "
              f"{reached / rate:.0%} of that")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        sys.exit(worker(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--bf16", default="auto", help="of kd_mnist.py")
    arguments = parser.parse_args()
    extra = ["--bf16", arguments.bf16]
    compare(arguments.data_dir, arguments.pairs, extra)
    growth(arguments.data_dir, extra)
    efficiency(arguments.data_dir, extra)
