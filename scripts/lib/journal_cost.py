"""The runs and figures of scripts/journal-cost; see there."""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

import rig
from rig import Place

MIB = 1 << 20
BUCKET = "cost"
LATENCIES = ("0s", "20ms")
# For a hang only, in seconds.
PATIENCE = 600


def one_large(point):
    """2 GiB by one program."""
    command = ["dd", "if=/dev/zero", f"of={point}/large", "bs=1M", "count=2048", "status=none"]
    subprocess.run(command, check=True, timeout=PATIENCE)


def many_files(point):
    """100 files of 16 MiB at once; it is over when every close() has returned."""
    block = bytes(MIB)
    failures = []

    def write(number):
        try:
            file = os.open(f"{point}/{number}", os.O_WRONLY | os.O_CREAT)
            for _ in range(16):
                os.write(file, block)
            os.close(file)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(100)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        raise RuntimeError(f"not written within {PATIENCE} s")
    if failures:
        raise failures[0]


# Each with what its journal may cost.
WORKLOADS = [
    ("one writer, 2 GiB", one_large, 3),
    ("100 files of 16 MiB at once", many_files, 15),
]


def mount(place, options, journal, endpoint, before=()):
    point = place.folder("mnt")
    command = [
        *before, options.wholefs, "mount", "--foreground", "--endpoint-url", endpoint,
        "--state-dir", place.file("state"), f"--journal={journal}", f"s3://{BUCKET}", point,
    ]  # fmt: skip
    return point, place.mount(command, point)


def serve(place, options, latency):
    return place.serve(options.wholefs, "--bucket", BUCKET, "--null", "--latency", latency)


def run(options, latency, workload, journal):
    """Seconds, with a server and a mount of its own."""
    with Place("journal-cost", options.dir) as place:
        point, _ = mount(place, options, journal, serve(place, options, latency))
        began = time.monotonic()
        workload(point)
        took = time.monotonic() - began
        if rig.ending.is_set():
            raise rig.Ended
        return took


def count_syncs(options, workload):
    """How often the whole of wholefs syncs a file or directory while the workload runs; None without strace."""
    if not shutil.which("strace"):
        return None
    with Place("journal-cost", options.dir) as place:
        calls = place.file("calls")
        traced = ["strace", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o", calls]
        try:
            point, process = mount(place, options, "on", serve(place, options, LATENCIES[0]), traced)
        except RuntimeError:
            # Where tracing is forbidden.
            return None

        def syncs():
            with open(calls) as lines:
                return sum(1 for line in lines if re.search(r"\bf(data)?sync\(", line))

        before = syncs()
        workload(point)
        return syncs() - before


def processor_ticks():
    """Busy, and all."""
    with open("/proc/stat") as lines:
        ticks = [int(number) for number in lines.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def quiet_moment():
    """Waits, half a minute at most, until others leave the processors alone; returns the share they take."""
    for _ in range(60):
        before = processor_ticks()
        rig.pause(0.5)
        busy, total = (now - then for now, then in zip(processor_ticks(), before))
        share = busy / max(1, total)
        if share < 0.1:
            break
    return share


def measure(options, latency, name, workload, target, log):
    """A line of the table."""
    took = {"on": [], "off": []}
    for number in range(options.rounds):
        order = ("on", "off") if number % 2 == 0 else ("off", "on")
        others = quiet_moment()
        for journal in order:
            took[journal].append(run(options, latency, workload, journal))
        on, off = took["on"][-1], took["off"][-1]
        line = f"{name}, latency {latency}, {number + 1} of {options.rounds}: on {on:.3f} s, off {off:.3f} s, others {others:.0%}"
        print(line, file=sys.stderr, flush=True)
        if log:
            print(line, file=log, flush=True)
    costs = [100 * (on / off - 1) for on, off in zip(took["on"], took["off"])]
    on, off, cost = (statistics.median(values) for values in (took["on"], took["off"], costs))
    low, _, high = statistics.quantiles(costs, n=4)
    return f"{name} | {latency} | {on:.3f} s | {off:.3f} s | {cost:+.1f} % | {low:+.1f} to {high:+.1f} % | under {target} %"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wholefs", required=True)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--dir", default="/var/tmp")
    parser.add_argument("--log")
    options = parser.parse_args()
    if options.rounds < 2:
        sys.exit("scripts/journal-cost: at least two rounds")
    rig.prepare()
    kind = subprocess.run(["stat", "-f", "-c", "%T", options.dir], capture_output=True, text=True).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        print(f"scripts/journal-cost: {options.dir} is a {kind}: syncs cost nothing there; name a disk with --dir", file=sys.stderr)
    log = open(options.log, "w") if options.log else None
    try:
        # Unmeasured: what is cold once.
        run(options, LATENCIES[0], one_large, "on")
        lines = [
            measure(options, latency, name, workload, target, log)
            for name, workload, target in WORKLOADS
            for latency in LATENCIES
        ]
        syncs = [(name, count_syncs(options, workload)) for name, workload, _ in WORKLOADS]
    except (rig.Ended, subprocess.CalledProcessError):
        if rig.ending.is_set():
            sys.exit(130)
        raise
    print("| workload | latency | journal on, median | off, median | cost, median of pairs | its middle half | target |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for line in lines:
        print(f"| {line} |")
    print()
    for name, count in syncs:
        print(f"syncs, {name}: {'not counted (no strace)' if count is None else count}")
    print(f"{options.rounds} pairs each; journals on {kind}; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
