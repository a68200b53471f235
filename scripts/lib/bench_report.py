"""What scripts/bench has found, as tables, verdicts and plots."""

import os
import statistics

import svg
from bench_jobs import BEST_PEER, AtLeast, AtMost, Times, TimesJob, jobs
from bench_stage import MIB, Run

OURS = "wholefs"
LIMITS = ("null-fuse", "null-fuse-buffered", "bare-sdk")
SERVERS = {
    "null": "A server at hand that keeps nothing (no latency)",
    "far": "A distant server (20 ms a request, 80 MiB/s a connection)",
    "garage": "Garage, on this machine's disk",
}
# The budgets of writing and reading, and what else there is.
PEAK_MOST = (320 + 256 + 64) * MIB


class Results:
    """Runs by job and contender, as JSON has them too."""

    def __init__(self, head, jobs=None):
        # Versions, sizes, machine.
        self.head = head
        # By job: by contender: runs, or the text of a failure.
        self.jobs = jobs if jobs is not None else {}

    def add(self, job, contender, outcome):
        of_job = self.jobs.setdefault(job.name, {})
        if isinstance(outcome, Run):
            of_job.setdefault(contender, []).append(outcome)
        else:
            of_job[contender] = outcome

    def runs(self, job, contender):
        found = self.jobs.get(job.name, {}).get(contender)
        return found if isinstance(found, list) else []

    def failure(self, job, contender):
        found = self.jobs.get(job.name, {}).get(contender)
        return found if isinstance(found, str) else None

    def median(self, job, contender, what):
        values = [what(run) for run in self.runs(job, contender)]
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else None

    def value(self, job, contender):
        return self.median(job, contender, lambda run: run.value(job.unit))

    def contenders(self):
        return list(self.head["contenders"])

    def peers(self, job):
        """Those who are to be compared with: none that says done before it is."""
        later = self.head["uploads_later"] if job.writes else []
        return [name for name in self.contenders() if not name.startswith(OURS) and name not in (*LIMITS, *later)]

    def peak(self, contender):
        """Of all jobs."""
        peaks = [run.peak for job in jobs() for run in self.runs(job, contender) if run.peak]
        return max(peaks, default=None)

    def to_json(self):
        plain = lambda found: found if isinstance(found, str) else [vars(run) for run in found]
        return self.head | {
            "jobs": {job: {name: plain(found) for name, found in of.items()} for job, of in self.jobs.items()}
        }

    @staticmethod
    def from_json(read):
        runs = lambda found: found if isinstance(found, str) else [Run(**run) for run in found]
        of_jobs = {job: {name: runs(found) for name, found in of.items()} for job, of in read.pop("jobs").items()}
        return Results(read, of_jobs)


# --- Targets ---------------------------------------------------------------------------------------


def cost(name, run):
    match name:
        case "CPU-s/GiB":
            return run.cpu_per_gib
        case "requests":
            return run.requests_per_operation
        case "peak MiB":
            return run.peak and run.peak / MIB
        case "MiB left":
            return None if run.left is None else run.left / MIB
        case "MiB moved":
            return None if run.moved is None else run.moved / MIB


def is_time(job):
    return job.unit in ("s", "ms")


def judge(results, job, target):
    """What is wanted, what was found, and whether that is enough (None: not known)."""
    ours = results.value(job, OURS)
    match target:
        case Times(factor, others):
            if others == (BEST_PEER,):
                others, pick, who = results.peers(job), min if is_time(job) else max, BEST_PEER
            else:
                pick, who = max if is_time(job) else min, " or ".join(others)
                who = f"the slower of {who}" if len(others) > 1 else who
            wanted = f"≥ {factor:g} × {who}"
            values = {name: results.value(job, name) for name in others}
            missing = [name for name in others if values[name] is None]
            known = {name: value for name, value in values.items() if value is not None}
            if ours is None or not known or (missing and who != BEST_PEER):
                return wanted, not_measured(results, job, missing), None
            name = pick(known, key=known.get)
            ratio = known[name] / ours if is_time(job) else ours / known[name]
            return wanted, f"{svg.number(ratio)} × {name}", ratio >= factor
        case TimesJob(factor, name):
            wanted = f"≥ {factor:g} × {name}"
            other = results.value(next(job for job in jobs() if job.name == name), OURS)
            if ours is None or other is None:
                return wanted, "not measured", None
            return wanted, f"{svg.number(ours / other)} ×", ours / other >= factor
        case AtLeast(least):
            wanted = f"≥ {least:g} {job.unit}"
            return (wanted, "not measured", None) if ours is None else (wanted, f"{svg.number(ours)}", ours >= least)
        case AtMost(name, most):
            wanted = f"{name} ≤ {most:g}"
            found = results.median(job, OURS, lambda run: cost(name, run))
            return (wanted, "not measured", None) if found is None else (wanted, svg.number(found), found <= most)


def not_measured(results, job, missing):
    failures = [name for name in missing if results.failure(job, name)]
    return f"{', '.join(failures)} failed" if failures else "not measured"


def verdicts(results):
    """Lines: job, wanted, found, verdict."""
    for job in jobs():
        if job.name in results.jobs:
            for target in job.targets:
                yield f"{job.name}: {job.title}", *judge(results, job, target)
    ours, theirs = results.peak(OURS), results.peak("mount-s3")
    if ours:
        found = f"{ours / MIB:.0f} MiB"
        yield "peak RSS, all jobs", f"≤ budgets + 64 MiB = {PEAK_MOST / MIB:.0f} MiB", found, ours <= PEAK_MOST
        half = (f"{ours / theirs:.2f} ×", ours <= theirs / 2) if theirs else ("not measured", None)
        yield "peak RSS, all jobs", "≤ 0.5 × mount-s3", *half


# --- Tables ----------------------------------------------------------------------------------------


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def cell(results, job, name):
    value = results.value(job, name)
    if value is None:
        return "fails" if results.failure(job, name) else ""
    late = job.writes and name in results.head["uploads_later"]
    return svg.number(value) + (" ¹" if late else "")


def markdown(results):
    head, measured = results.head, [job for job in jobs() if job.name in results.jobs]
    names = results.contenders()
    titles = [head["contenders"][name] for name in names]
    text = [f"{head['machine']}. Medians of {head['rounds']} rounds, {head['when']}."]
    if head["note"]:
        text += [f"**{head['note']}**"]
    for server, title in SERVERS.items():
        of_server = [job for job in measured if job.server == server]
        if of_server:
            rows = [[job.title, job.unit, *(cell(results, job, name) for name in names)] for job in of_server]
            text += [f"### {title}", table(["", "", *titles], rows), f"![{title}]({server}.svg)"]
    text += ["¹ close() returns before the upload: no measure of writing.", "### Targets"]
    sign = {True: "met", False: "**not met**", None: "—"}
    rows = [[job, wanted, found, sign[good]] for job, wanted, found, good in verdicts(results)]
    text += [table(["job", "target", "measured", ""], rows), "### Costs", costs(results, measured, names)]
    failures = [
        f"- {job.name}, {name}: {results.failure(job, name)}"
        for job in measured
        for name in names
        if results.failure(job, name)
    ]
    if failures:
        text += ["### What failed", "\n".join(failures)]
    return "\n\n".join(text) + "\n"


def costs(results, measured, names):
    rows = []
    for job in measured:
        for name in names:
            if results.runs(job, name):
                of = lambda what: results.median(job, name, what)
                requests = of(lambda run: run.requests_per_operation)
                cells = [of(lambda run: run.cpu_per_gib), requests, of(lambda run: cost("MiB moved", run))]
                cells += [of(lambda run: run.peak and run.peak / MIB)]
                kinds = results.runs(job, name)[-1].requests
                kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
                words = ["" if value is None else svg.number(value) for value in cells]
                rows.append([job.name, name, *words, kinds])
    head = ["job", "", "CPU-s/GiB", "requests per operation", "MiB at the server", "peak RSS, MiB", "requests of a run"]
    return table(head, rows)


# --- Plots -----------------------------------------------------------------------------------------


def plots(results):
    """Names of files, and what is in them."""
    names = results.contenders()
    for server, title in SERVERS.items():
        panels = []
        for job in jobs():
            later = results.head["uploads_later"] if job.writes else []
            title_of = lambda name: f"{name} (uploads later)" if name in later else name
            rows = [(title_of(name), results.value(job, name), names.index(name)) for name in names if results.runs(job, name)]
            if job.server == server and rows:
                less = ", less is better" if is_time(job) else ""
                panels.append((f"{job.title.replace('`', '')} ({job.unit}{less})", rows))
        if panels:
            yield f"{server}.svg", svg.bars(title, panels)
    peaks = [(name, results.peak(name), names.index(name)) for name in names]
    rows = [(name, peak / MIB, colour) for name, peak, colour in peaks if peak]
    if rows:
        yield "memory.svg", svg.bars("Memory at its peak, of all jobs (MiB, less is better)", [("", rows)])


def write(results, folder):
    os.makedirs(folder, exist_ok=True)
    for name, drawing in plots(results):
        put(folder, name, drawing)
    put(folder, "results.md", "# Measured\n\n" + markdown(results))


def put(folder, name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)
