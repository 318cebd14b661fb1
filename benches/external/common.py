"""What the scripts here share with each other and with benches/harness: timing, the machine, the commit, result files."""

import json
import os
import platform
import random
import shlex
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import torch

WARM_UP = 2
RESULTS = Path(__file__).parent.parent / "results"


def measure(runs, seconds, fewest, calls=1, most=400, pause=0.0):
    """Every run once a round, in changing order; the median round and the quartiles, in milliseconds of a call.

    A run that measures itself returns the seconds that count, as a float. `pause` is the time before each in which threads of the last one
    stop to spin.
    """
    for _ in range(WARM_UP):
        begin = time.perf_counter()
        for run in runs:
            run()
        elapsed = time.perf_counter() - begin
    rounds = min(most, max(fewest, int(seconds * len(runs) / elapsed)))
    times, order = [[] for _ in runs], list(range(len(runs)))
    for _ in range(rounds):
        random.shuffle(order)
        for index in order:
            if pause:
                time.sleep(pause)
            begin = time.perf_counter()
            own = runs[index]()
            taken = own if isinstance(own, float) else time.perf_counter() - begin
            times[index].append(1e3 * taken / calls)

    def summary(values):
        values.sort()
        at = lambda share: values[round((len(values) - 1) * share)]
        return {"median_ms": at(0.5), "lower_quartile_ms": at(0.25), "upper_quartile_ms": at(0.75), "rounds": rounds}

    return [summary(values) for values in times]


def commit():
    """The commit of this script and whether the tree has changes, as benches/harness/provenance.rs says it; None without git."""

    def git(*args):
        call = ["git", "-C", str(Path(__file__).parent.parent.parent), *args]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benches/results")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def check_recordable(path, at):
    """Ends the program if `path` is in benches/results and the commit `at` is not clean."""
    if RESULTS.resolve() in path.resolve().parents and (not at or at.endswith("-dirty")):
        sys.exit("error: only figures of a clean commit are recorded in benches/results; commit first, or write elsewhere")


def origin(programs, script, at, seconds, threads):
    """The fields that say where figures are from."""
    return {
        "program": programs + (f" ({at})" if at else ""),
        "command": f"python benches/external/{script} " + shlex.join(sys.argv[1:]),
        "measured": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "machine": {
            "processor": processor(),
            "threads": threads,
            "vectors": vectors(),
            "system": f"{platform.system().lower()} {platform.machine()}",
        },
        "seconds": seconds,
    }


def write(path, results):
    """Replaces the file only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(results, indent=2) + "\n")
    os.replace(partial, path)


def vectors():
    capability = torch.backends.cpu.get_cpu_capability().lower()
    return capability if capability in ("avx512", "avx2") else "scalar"


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
