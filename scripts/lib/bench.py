"""The runs of scripts/bench; see there."""

import argparse
import json
import os
import platform
import sys
import time

import bench_growth
import bench_report
import rig
from bench_jobs import QUICK, Sizes, jobs
from bench_stage import BareSdk, NullFuse, Stage
from peers import Geesefs, Mountpoint, Rclone, S3fs, Wholefs
from rig import Place

# Seconds a run may take: some tools take for ever for what others do at once.
PATIENCE = 300


def warn(line):
    print(f"scripts/bench: {line}", file=sys.stderr, flush=True)


def known_contenders(options):
    return {
        "wholefs": Wholefs(options.wholefs),
        "wholefs-plain": Wholefs(options.wholefs, "--metadata=none"),
        "s3fs": S3fs(),
        "rclone": Rclone("writes"),
        "rclone-off": Rclone("off"),
        "mount-s3": Mountpoint(),
        "geesefs": Geesefs(),
        "null-fuse": NullFuse(options.examples, "direct"),
        "null-fuse-buffered": NullFuse(options.examples, "buffered"),
        "bare-sdk": BareSdk(options.examples),
    }


def choose(options):
    """Those to be measured, by name; what is not here is said and left out."""
    known = known_contenders(options)
    chosen = {}
    for name in options.peers:
        if name not in known:
            sys.exit(f"scripts/bench: no peer is called {name}; there are {', '.join(known)}")
        if known[name].available():
            chosen[name] = known[name]
        else:
            warn(f"no {os.path.basename(known[name].program)} here: going on without {name}")
    if not options.growth:
        chosen |= {name: known[name] for name in bench_report.LIMITS}
    return chosen


def choose_jobs(options):
    known = {job.name: job for job in jobs()}
    unknown = [name for name in options.jobs or () if name not in known]
    if unknown:
        sys.exit(f"scripts/bench: no job is called {unknown[0]}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.jobs or known]
    if not options.garage:
        if any(job.server == "garage" for job in chosen):
            warn("no Garage here (scripts/test installs it): going on without")
        chosen = [job for job in chosen if job.server != "garage"]
    return chosen


def play(options, server, contender, scene):
    """One run, in a place of its own: what it took, or why there is nothing to tell."""
    with Place("bench", options.dir) as place:
        stage = Stage(place, options, server, contender)
        try:
            return scene(stage)
        except Exception as error:
            if rig.ending.is_set():
                raise rig.Ended from None
            return " ".join(str(error).split()).replace("|", "/") or type(error).__name__


def measure(options, job, contenders, results):
    """All rounds of a job: the contenders in turns, another one first each time."""
    taking_part = [name for name in contenders if name not in bench_report.LIMITS or name in job.limits]
    for number in range(options.rounds):
        turn = number % len(taking_part)
        for name in taking_part[turn:] + taking_part[:turn]:
            if results.failure(job, name):
                continue
            outcome = play(options, job.server, contenders[name], job.play)
            results.add(job, name, outcome)
            said = outcome if isinstance(outcome, str) else f"{outcome.value(job.unit):.1f} {job.unit}"
            warn(f"{job.name} {number + 1}/{options.rounds}: {name}: {said}")


def head(options, contenders):
    with open("/proc/cpuinfo") as lines:
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    versions = [f"{name} {peer.version()}" for name, peer in contenders.items() if peer.version()]
    machine = f"{os.cpu_count()} cores ({cpu}), Linux {platform.release()}; {', '.join(versions)}"
    notes = []
    if options.quick:
        notes.append("Small sizes (--quick): a trial of the measuring, no measure.")
    if "debug" in options.wholefs.split(os.sep):
        notes.append("wholefs is not built for speed here: no measure.")
    return {
        "machine": machine,
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": str(options.rounds),
        "note": " ".join(notes),
        "contenders": {name: peer.title for name, peer in contenders.items()},
        "uploads_later": [name for name, peer in contenders.items() if peer.uploads_later],
    }


def begin(options, head, chosen):
    """Results without anything of the chosen jobs."""
    path = os.path.join(options.out, "results.json")
    if not options.keep or not os.path.exists(path):
        return bench_report.Results(head)
    with open(path) as file:
        kept = bench_report.Results.from_json(json.load(file))
    for what in ("machine", "contenders", "note"):
        if kept.head[what] != head[what]:
            sys.exit(f"scripts/bench: {path} is of another {what}: nothing of it can be kept")
    for job in chosen:
        kept.jobs.pop(job.name, None)
    if kept.jobs:
        counts = {int(count) for count in kept.head["rounds"].split("–")} | {options.rounds}
        head["rounds"] = "–".join(str(count) for count in sorted({min(counts), max(counts)}))
    return bench_report.Results(head, kept.jobs)


def bench(options):
    contenders = choose(options)
    chosen = choose_jobs(options)
    results = begin(options, head(options, contenders), chosen)
    try:
        for job in chosen:
            measure(options, job, contenders, results)
            # What there is so far is kept, whatever comes.
            save(options, "results.json", results.to_json())
    except rig.Ended:
        warn("ended before it was done; what was measured is in the report")
    if not results.jobs:
        return
    save(options, "results.json", results.to_json())
    bench_report.write(results, options.out)
    print(bench_report.markdown(results), end="")


def save(options, name, data):
    os.makedirs(options.out, exist_ok=True)
    with open(os.path.join(options.out, name), "w") as file:
        json.dump(data, file, indent=1)


def again(options):
    """Tables and plots from figures that are there."""
    for name, rewrite in (("results.json", report_again), ("growth.json", bench_growth.write)):
        path = os.path.join(options.out, name)
        if os.path.exists(path):
            with open(path) as file:
                rewrite(json.load(file), options.out)


def report_again(read, out):
    bench_report.write(bench_report.Results.from_json(read), out)


def growth(options):
    contenders = choose(options)
    found = head(options, contenders) | {"points": {}}
    measure_one = lambda server, name, scene: play(options, server, contenders[name], scene)
    try:
        bench_growth.measure(options, list(contenders), measure_one, found["points"], warn)
    except rig.Ended:
        warn("ended before it was done; what was measured is in the report")
    save(options, "growth.json", found)
    print(bench_growth.write(found, options.out), end="")


def size(text):
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    return int(text[:-1]) << units[text[-1]] if text[-1:] in units else int(text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wholefs", required=True)
    parser.add_argument("--examples", required=True)
    parser.add_argument("--garage")
    parser.add_argument("--peers", type=lambda text: text.split(","), required=True)
    parser.add_argument("--jobs", type=lambda text: text.split(","))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max", type=size)
    parser.add_argument("--dir", default="/var/tmp")
    parser.add_argument("--out", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1:
        sys.exit("scripts/bench: at least one round")
    if options.again:
        return again(options)
    rig.prepare()
    options.sizes = QUICK if options.quick else Sizes()
    options.patience = PATIENCE
    growth(options) if options.growth else bench(options)
    if rig.ending.is_set():
        sys.exit(130)


if __name__ == "__main__":
    main()
