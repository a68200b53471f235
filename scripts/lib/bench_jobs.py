"""What scripts/bench has done, and what is aimed at: jobs and targets as data."""

import dataclasses
import os
import time
from collections.abc import Callable

import rig
from bench_stage import GIB, KIB, MIB, BareSdk, Run

# --- Targets: what is to hold of wholefs, in the same run ------------------------------------------

BEST_PEER = "the best peer"
DIRECT, BUFFERED, SDK = "null-fuse", "null-fuse-buffered", "bare-sdk"


@dataclasses.dataclass(frozen=True)
class Times:
    """At least so many times as fast as another; as the slower, if there are two."""

    times: float
    others: tuple


@dataclasses.dataclass(frozen=True)
class TimesJob:
    """At least so many times as fast as wholefs in another job."""

    times: float
    job: str


@dataclasses.dataclass(frozen=True)
class AtLeast:
    value: float


@dataclasses.dataclass(frozen=True)
class AtMost:
    """Of a cost."""

    cost: str
    value: float


def times(factor, *others):
    return Times(factor, others)


# --- Jobs ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    title: str
    server: str
    unit: str
    play: Callable
    targets: tuple = ()
    # Limits that have something to say here.
    limits: tuple = ()
    # It writes: a contender that uploads later has not done it when it says so.
    writes: bool = False


@dataclasses.dataclass(frozen=True)
class Sizes:
    large: int = GIB
    # Of each of four.
    fourth: int = 512 * MIB
    # On a server that keeps what it is given.
    kept: int = 256 * MIB
    huge: int = 10 * GIB
    many: int = 10_000
    few: int = 1_000
    million: int = 1_000_000
    created: int = 2_000
    created_far: int = 100
    created_by_many: int = 2_560
    random: int = 4_000
    # Seconds, of what could go on for ever.
    long_enough: int = 15


QUICK = Sizes(
    large=48 * MIB, fourth=16 * MIB, kept=16 * MIB, huge=96 * MIB, many=300, few=60, million=3_000,
    created=100, created_far=20, created_by_many=128, random=200, long_enough=5,
)  # fmt: skip

# Of the bare SDK: as many requests at once as wholefs has under way at the most.
PUTS, GETS = 32, 8
# Of what appends and copies: requests have bodies too (lists of parts).
HARDLY_ANY_BYTES = 1 * MIB
# One each; and those of the open.
NEARLY_ONE = 1.02


def write(files=1, size="large"):
    def play(stage):
        length = getattr(stage.sizes, size)
        stage.serve()
        names = [f"file{number}" for number in range(files)]
        if isinstance(stage.contender, BareSdk):
            return stage.bare("put", length, max(1, PUTS // files), *names)
        stage.mount()
        return stage.timed("write", length, MIB, *map(stage.path, names), commits=files)

    return play


def read(files=1, block=MIB, size="large", again=False):
    def play(stage):
        length = getattr(stage.sizes, size)
        names = [f"file{number}" for number in range(files)]
        stage.serve([(None, name, length) for name in names])
        if isinstance(stage.contender, BareSdk):
            return stage.bare("get", length, GETS, *names)
        stage.mount(size=length)
        command = ["read", block, *map(stage.path, names)]
        if again:
            stage.load(*command)
        run = stage.timed(*command)
        if run.bytes != length * files:
            raise RuntimeError(f"{run.bytes} bytes read instead of {length * files}")
        return run

    return play


def random(threads=1):
    def play(stage):
        stage.serve([(None, "file", stage.sizes.large)])
        stage.mount(size=stage.sizes.large)
        count, seconds = stage.sizes.random, stage.sizes.long_enough
        return stage.timed("random", count, seconds, threads, stage.path("file"))

    return play


def create(processes=1, count="created"):
    def play(stage):
        stage.serve()
        stage.mount(remembering=True)
        made = stage.path("made")
        os.mkdir(made)
        with stage.measured() as run:
            answer = stage.load("create", getattr(stage.sizes, count), stage.sizes.long_enough, processes, made)
            run.commits = answer["operations"]
        run.seconds, run.bytes, run.operations = answer["seconds"], answer["bytes"], answer["operations"]
        return run

    return play


def stat(count):
    def play(stage):
        stage.serve([(getattr(stage.sizes, count), "dir/", 4 * KIB)])
        stage.mount(remembering=True)
        # Listed before, too: the listing itself is the other jobs' matter.
        os.listdir(stage.path("dir"))
        return stage.timed("stat", stage.sizes.long_enough, stage.path("dir"))

    return play


def long_listing(count, forget=False):
    def play(stage):
        entries = getattr(stage.sizes, count)
        stage.serve([(entries, "dir/", 4 * KIB)])
        stage.mount()
        before = stage.memory("VmRSS")
        run = stage.timed("run", "ls", "-l", stage.path("dir"))
        run.operations = entries
        if forget:
            run.left = left(stage, before)
        return run

    return play


def left(stage, before):
    """Of the memory, when the kernel has forgotten the names, which only root can make it do."""
    if not rig.drop_caches("2"):
        return None
    rig.wait_until(lambda: stage.memory("VmRSS") - before < 16 * MIB, 5)
    return max(0, stage.memory("VmRSS") - before)


def remove(count):
    def play(stage):
        entries = getattr(stage.sizes, count)
        stage.serve([(entries, "dir/", 4 * KIB)])
        stage.mount()
        run = stage.timed("run", "rm", "-rf", stage.path("dir"))
        run.operations = entries
        return run

    return play


def mount_to_first_read(stage):
    stage.serve([(None, "file", 4 * KIB)])
    command = stage.command(size=4 * KIB)
    watching = stage.program(
        os.path.join(stage.options.examples, "load"), "first", stage.options.patience, stage.path("file")
    )
    began = time.monotonic()
    stage.process = stage.place.start(command, log="mount.log")
    output, _ = stage.finish(watching)
    with stage.measured() as run:
        pass
    run.seconds = float(output.splitlines()[0]) - began
    return run


def unmount(stage):
    stage.serve([(None, "file", 4 * KIB)])
    stage.mount()
    with open(stage.path("file"), "rb") as file:
        file.read()
    return Run(stage.unmount())


def append(stage):
    stage.serve([(None, "file", stage.sizes.huge)])
    stage.mount()
    return stage.timed("append", MIB, stage.path("file"), commits=1)


def copy(stage):
    stage.serve([(None, "file", stage.sizes.large)])
    stage.mount()
    run = stage.timed("run", "cp", stage.path("file"), stage.path("copy"), commits=1)
    run.bytes = stage.sizes.large
    return run


def jobs():
    mountpoint = "mount-s3"
    return [
        Job("write", "one writer", "null", "MiB/s", write(), (
            times(1.8, mountpoint), times(0.9, DIRECT, SDK), AtMost("CPU-s/GiB", 0.5),
        ), (DIRECT, BUFFERED, SDK), writes=True),
        Job("write4", "four writers", "null", "MiB/s", write(4, "fourth"), (
            times(1.8, mountpoint),
        ), (DIRECT, SDK), writes=True),
        Job("read-128k", "one reader, 128 KiB at a time", "null", "MiB/s", read(block=128 * KIB), (
            times(1.7, mountpoint), times(0.6, SDK), AtMost("CPU-s/GiB", 0.6),
        ), (DIRECT, BUFFERED, SDK)),
        Job("read-1m", "one reader, 1 MiB at a time", "null", "MiB/s", read(), (
            times(1.7, mountpoint), times(0.6, SDK), AtMost("CPU-s/GiB", 0.6),
        ), (DIRECT, BUFFERED, SDK)),
        Job("read4", "four readers", "null", "MiB/s", read(4, size="fourth"), (
            times(1.5, mountpoint),
        ), (DIRECT, SDK)),
        Job("reread", "reading an unchanged file again", "null", "MiB/s", read(again=True), (
            times(0.8, BUFFERED), AtMost("requests", 1),
        ), (BUFFERED,)),
        Job("random", "random reads of 4 KiB", "null", "/s", random(), (
            times(1.2, BEST_PEER),
        ), (DIRECT,)),
        Job("create", "files of 4 KiB made by one process", "null", "/s", create(), (
            AtMost("requests", 1),
        ), writes=True),
        Job("stat", "stat of listed entries", "null", "/s", stat("many"), (
            times(1, BEST_PEER), AtMost("requests", 0.01),
        )),
        Job("ls", "entries of `ls -l`, 10,000", "null", "/s", long_listing("many"), (
            times(1.5, BEST_PEER),
        )),
        Job("ls-million", "entries of `ls -l`, 1,000,000", "null", "/s", long_listing("million", forget=True), (
            times(1.5, BEST_PEER), AtMost("peak MiB", 400), AtMost("MiB left", 32),
        )),
        Job("rm", "files of `rm -r`, 10,000", "null", "/s", remove("many"), (
            times(1, BEST_PEER),
        )),
        Job("mount", "mount to first read", "null", "ms", mount_to_first_read, (times(1, BEST_PEER),)),
        Job("unmount", "unmount", "null", "ms", unmount, (times(1, BEST_PEER),)),
        Job("append", "1 MiB behind 10 GiB", "null", "ms", append, (
            times(100, "s3fs"), AtMost("MiB moved", 32),
        ), writes=True),
        Job("cp", "`cp` of 1 GiB within the mount", "null", "MiB/s", copy, (
            AtMost("MiB moved", HARDLY_ANY_BYTES / MIB),
        ), writes=True),
        Job("write-far", "one writer", "far", "MiB/s", write(), (
            times(1.3, mountpoint), times(0.9, SDK),
        ), (SDK,), writes=True),
        Job("write4-far", "four writers", "far", "MiB/s", write(4, "fourth"), (
            times(1.3, mountpoint), times(0.9, SDK),
        ), (SDK,), writes=True),
        Job("read-far", "one reader", "far", "MiB/s", read(), (
            times(1.5, mountpoint), times(0.9, SDK),
        ), (SDK,)),
        Job("read4-far", "four readers", "far", "MiB/s", read(4, size="fourth"), (
            times(1.5, mountpoint), times(0.9, SDK),
        ), (SDK,)),
        Job("random-far", "random reads of 4 KiB", "far", "/s", random(), (AtMost("requests", NEARLY_ONE),)),
        Job("random16-far", "the same, 16 readers", "far", "/s", random(16), (
            AtMost("requests", NEARLY_ONE), TimesJob(12, "random-far"),
        )),
        Job("create-far", "files of 4 KiB made by one process", "far", "/s", create(count="created_far"), (
            AtLeast(45), AtMost("requests", 1),
        ), writes=True),
        Job("create64-far", "the same, by 64 processes", "far", "/s", create(64, "created_by_many"), (
            TimesJob(20, "create-far"),
        ), writes=True),
        Job("stat-far", "stat of listed entries", "far", "/s", stat("few"), (
            times(1, BEST_PEER), AtMost("requests", 0.01),
        )),
        Job("ls-far", "entries of `ls -l`, 10,000", "far", "/s", long_listing("many"), (times(1.5, BEST_PEER),)),
        Job("rm-far", "files of `rm -r`, 1,000", "far", "/s", remove("few"), (times(2, BEST_PEER),)),
        Job("write-garage", "one writer", "garage", "MiB/s", write(size="kept"), (), (SDK,), writes=True),
        Job("read-garage", "one reader", "garage", "MiB/s", read(size="kept"), (), (SDK,)),
        Job("create-garage", "files of 4 KiB made by one process", "garage", "/s", create(), (), writes=True),
        Job("ls-garage", "entries of `ls -l`, 1,000", "garage", "/s", long_listing("few")),
    ]  # fmt: skip
