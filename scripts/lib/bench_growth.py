"""How cost grows: scripts/bench --growth. The same job at sizes far apart, as curves with their slopes."""

import dataclasses
import os
import statistics
from collections.abc import Callable

import svg
from bench_jobs import create
from bench_report import OURS, put, table
from bench_stage import GIB, KIB, MIB


@dataclasses.dataclass(frozen=True)
class Series:
    """What grows, from where to where; and what is done at each size."""

    name: str
    title: str
    of: str
    sizes: tuple
    unit: str
    # Of a size: a job's scene.
    scene: Callable
    # Bytes that a run of this size moves; an entry of a directory stands for 4 KiB.
    weight: Callable
    # How a size is written.
    word: Callable = svg.number


def in_units(size):
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << bits:
            return f"{size / (1 << bits):.0f} {unit}"
    return str(size)


def writing(size):
    def scene(stage):
        stage.serve()
        stage.mount()
        return stage.timed("write", size, MIB, stage.path("file"), commits=1)

    return scene


def reading(size):
    def scene(stage):
        stage.serve([(None, "file", size)])
        stage.mount(size=size)
        return stage.timed("read", MIB, stage.path("file"))

    return scene


def listing(entries):
    def scene(stage):
        stage.serve([(entries, "dir/", 4 * KIB)])
        stage.mount()
        run = stage.timed("run", "ls", "-l", stage.path("dir"))
        run.operations = entries
        return run

    return scene


def writers(count):
    def scene(stage):
        stage.serve()
        stage.mount()
        files = [stage.path(f"file{number}") for number in range(count)]
        return stage.timed("write", 16 * MIB, MIB, *files, commits=count)

    return scene


def at_latency(job):
    """On a server that keeps nothing and answers each request so many milliseconds late."""

    def of(milliseconds):
        def scene(stage):
            serve = stage.serve
            stage.serve = lambda prefill=(): serve(prefill, ["--latency", f"{milliseconds}ms"])
            return job(stage)

        return scene

    return of


FOURS = lambda first, count: tuple(first * 4**n for n in range(count))
FILE_SIZES = FOURS(MIB, 9)
LATENCIES = (0, 1, 5, 20, 50, 100)

SERIES = [
    Series("write-size", "Writing a file", "size of the file", FILE_SIZES, "MiB/s", writing, lambda n: n, in_units),
    Series("read-size", "Reading a file", "size of the file", FILE_SIZES, "MiB/s", reading, lambda n: n, in_units),
    Series(
        "listing", "ls -l of a directory", "entries", tuple(10**n for n in range(2, 7)), "/s", listing,
        lambda n: n * 4 * KIB,
    ),
    Series(
        "writers", "Writers at once, 16 MiB each", "writers", FOURS(1, 5), "MiB/s", writers, lambda n: n * 16 * MIB
    ),
    Series(
        "latency-write", "One writer, 256 MiB", "ms a request", LATENCIES, "MiB/s", at_latency(writing(256 * MIB)),
        lambda n: 256 * MIB,
    ),
    Series(
        "latency-read", "One reader, 256 MiB", "ms a request", LATENCIES, "MiB/s", at_latency(reading(256 * MIB)),
        lambda n: 256 * MIB,
    ),
    Series(
        "latency-create", "Files of 4 KiB made by one process", "ms a request", LATENCIES, "/s", at_latency(create(count="created_far")),
        lambda n: 0,
    ),
]  # fmt: skip

# What is plotted of a run: a file's ending, words, and a value.
ASPECTS = [
    ("rate", None, None),
    ("memory", "peak RSS, MiB", lambda run: run.peak and run.peak / MIB),
    ("cpu", "CPU-s/GiB", lambda run: run.cpu_per_gib),
    ("requests", "requests per operation", lambda run: run.requests_per_operation),
]


def measure(options, names, play, points, warn):
    """`points`: by series, by contender: a list of sizes with medians by aspect."""
    for series in SERIES:
        if options.jobs and series.name not in options.jobs:
            continue
        of_series = points.setdefault(series.name, {})
        failed = set()
        for size in series.sizes:
            if options.max and series.weight(size) > options.max:
                continue
            runs = {name: [] for name in names}
            for _ in range(options.rounds):
                for name in names:
                    if name in failed:
                        continue
                    outcome = play("null", name, series.scene(size))
                    if isinstance(outcome, str):
                        failed.add(name)
                        warn(f"{series.name} {series.word(size)}: {name}: {outcome}")
                    else:
                        runs[name].append(outcome)
                        warn(f"{series.name} {series.word(size)}: {name}: {outcome.value(series.unit):.1f} {series.unit}")
            for name, found in runs.items():
                if found:
                    of_series.setdefault(name, []).append({"size": size} | medians(series, found))


def medians(series, runs):
    values = {}
    for aspect, _, of in ASPECTS:
        found = [value for run in runs if (value := run.value(series.unit) if of is None else of(run)) is not None]
        values[aspect] = statistics.median(found) if found else None
    return values


def write(found, folder):
    """Plots and tables; returns the text."""
    os.makedirs(folder, exist_ok=True)
    text = ["# How cost grows", f"{found['machine']}. Medians of {found['rounds']} rounds, {found['when']}."]
    if found["note"]:
        text += [f"**{found['note']}**"]
    text += ["A slope is that of the line through the logarithms: 0 is flat, 1 grows as the size does."]
    names = list(found["contenders"])
    for series in SERIES:
        of_series = found["points"].get(series.name)
        if not of_series:
            continue
        text += [f"## {series.title}"]
        for aspect, words, _ in ASPECTS:
            lines = [
                (name, [(point["size"], point[aspect]) for point in points if point[aspect] is not None], names.index(name))
                for name, points in of_series.items()
            ]
            if any(points for _, points, _ in lines) and aspect in ("rate", "memory"):
                name = f"growth-{series.name}-{aspect}.svg"
                put(folder, name, svg.curves(series.title, series.of, words or series.unit, lines, series.word))
                text += [f"![{series.title}: {words or series.unit}]({name})"]
        rows = [
            [name, series.word(point["size"]), *("" if point[aspect] is None else svg.number(point[aspect]) for aspect, _, _ in ASPECTS)]
            for name, points in of_series.items()
            for point in points
        ]
        slopes = [
            [name, "slope", *(slope_word(points, aspect) for aspect, _, _ in ASPECTS)]
            for name, points in of_series.items()
        ]
        text += [table(["", series.of, *(words or series.unit for _, words, _ in ASPECTS)], rows + slopes)]
    text += [model(found)]
    text = "\n\n".join(text) + "\n"
    put(folder, "growth.md", text)
    return text


def slope_word(points, aspect):
    steep = svg.slope([(point["size"], point[aspect]) for point in points if point[aspect] is not None])
    return "" if steep is None else f"{steep:+.2f}"


# --- Above this machine's reach ----------------------------------------------------------------------

LINE = 100e9 / 8
# A stream to a distant store: 20 ms a request, 80 MiB/s a connection, in requests of 8 MiB.
STREAM, DELAY, REQUEST = 80 * MIB, 0.020, 8 * MIB


def model(found):
    """What bounds a host with 100 Gb/s, with the arithmetic, from the costs of the largest file."""
    def costs(series):
        points = found["points"].get(series, {}).get(OURS, [])
        return points[-1]["cpu"] if points else None

    lines = ["## A host with 100 Gb/s: a model, not a measurement"]
    lines.append(f"100 Gb/s are {LINE / GIB:.2f} GiB/s.")
    per_stream = REQUEST / (REQUEST / STREAM + DELAY)
    lines.append(
        f"**Connections.** A request of {in_units(REQUEST)} takes {DELAY * 1000:.0f} ms and "
        f"{REQUEST / STREAM * 1000:.0f} ms of transfer at {in_units(STREAM)}/s: {per_stream / MIB:.1f} MiB/s a "
        f"connection. The line is full with {LINE / per_stream:.0f} of them, and "
        f"{LINE / per_stream * REQUEST / GIB:.1f} GiB of parts under way."
    )
    lines.append(f"**Requests.** {LINE / REQUEST:.0f} a second of {in_units(REQUEST)}.")
    for series, word in (("write-size", "Writing"), ("read-size", "Reading")):
        cpu = costs(series)
        if cpu:
            lines.append(
                f"**Processors.** {word} costs {cpu:.2f} CPU-s/GiB here: {cpu:.2f} × {LINE / GIB:.2f} GiB/s = "
                f"{cpu * LINE / GIB:.1f} cores; a core carries {8 * GIB / cpu / 1e9:.1f} Gb/s."
            )
    return "\n\n".join(lines)
