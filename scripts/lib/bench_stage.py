"""One run of scripts/bench: a server of its own, one contender on it, one job, and what that took.

A contender is a tool that mounts, or a limit: the filesystem that does nothing (examples/null_fuse.rs), and
the SDK with no filesystem over it (examples/bare_sdk.rs).
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time

import peers
import rig

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BUCKET = "bench"
TICKS = os.sysconf("SC_CLK_TCK")

# What each kind of server adds to the command line of the embedded bucket.
SERVERS = {
    "null": ["--null"],
    "far": ["--null", "--latency", "20ms", "--bandwidth", "80M"],
}


@dataclasses.dataclass
class Run:
    """What one run took. Rates are of `seconds`, in which the client worked; the rest is of everything until the
    bucket had what was written."""

    seconds: float
    bytes: int = 0
    operations: int = 1
    # Of the mount's processes.
    cpu: float | None = None
    peak: int | None = None
    # Files that are to be in the bucket when it is over.
    commits: int = 0
    # How much more memory is held afterwards than before.
    left: int | None = None
    # By S3's names of the operations; and bytes of bodies, at the server.
    requests: dict = dataclasses.field(default_factory=dict)
    received: int | None = None
    sent: int | None = None

    def value(self, unit):
        match unit:
            case "MiB/s":
                return self.bytes / MIB / self.seconds
            case "/s":
                return self.operations / self.seconds
            case "s":
                return self.seconds
            case "ms":
                return self.seconds * 1000

    @property
    def cpu_per_gib(self):
        return self.cpu / (self.bytes / GIB) if self.cpu is not None and self.bytes >= 4 * MIB else None

    @property
    def requests_per_operation(self):
        return sum(self.requests.values()) / max(1, self.operations) if self.received is not None else None

    @property
    def moved(self):
        return self.received + self.sent if self.received is not None else None


# --- Limits ----------------------------------------------------------------------------------------


class NullFuse(peers.Peer):
    """`files` are there already, of this size."""

    def __init__(self, examples, how):
        super().__init__(f"null FUSE, {how}", os.path.join(examples, "null_fuse"), None)
        self.how = how
        self.size = None

    def version(self):
        return None

    def command(self, place, served, point):
        return [self.program, point, self.how, *([str(self.size)] if self.size else [])]


class BareSdk(peers.Peer):
    """It mounts nothing: see Stage.bare."""

    def __init__(self, examples):
        super().__init__("bare SDK", os.path.join(examples, "bare_sdk"), None)

    def version(self):
        return None


# --- The stage -------------------------------------------------------------------------------------


class Stage:
    """Where a job plays: a place with a server, and the contender."""

    def __init__(self, place, options, server, contender):
        self.place, self.options, self.server, self.contender = place, options, server, contender
        self.sizes = options.sizes
        self.point = place.folder("mnt")
        self.process = None

    def path(self, name):
        return os.path.join(self.point, name)

    # Setting up.

    def serve(self, prefill=(), extra=()):
        """The server, with objects of zeros in it: pairs of a key and a size, or with a number before the key."""
        # Of a virtual machine's memory, what nobody has used yet costs several times as much. Without this each
        # run would fill more of it with pages of files, and the later contenders pay for that.
        rig.drop_caches("1")
        if self.server == "garage":
            self.served = peers.Served(self.place.serve_garage(self.options.garage, BUCKET), BUCKET, "garage")
            for count, key, size in prefill:
                keys = [key] if count is None else [f"{key}{number:07}" for number in range(count)]
                self.sdk("put", size, 4, *keys)
            return
        arguments = [*SERVERS[self.server], *extra, "--bucket", BUCKET]
        for count, key, size in prefill:
            arguments += ["--prefill", f"{key}={size}" if count is None else f"{count}x{key}={size}"]
        self.served = peers.Served(self.place.serve(self.options.wholefs, *arguments), BUCKET, "embedded")

    def command(self, remembering=False, size=None):
        if isinstance(self.contender, NullFuse):
            self.contender.size = size
        command = self.contender.command(self.place, self.served, self.point)
        return [*command, *(self.contender.remembering() if remembering else [])]

    def mount(self, remembering=False, size=None):
        self.process = self.place.mount(self.command(remembering, size), self.point)

    # Programs, which are ended when they take too long.

    def finish(self, process):
        """Its output, and what it used."""
        deadline = time.monotonic() + self.options.patience
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                break
            if rig.ending.is_set() or time.monotonic() > deadline:
                rig.end_group(process)
                if rig.ending.is_set():
                    raise rig.Ended
                raise TimeoutError(f"not within {self.options.patience} s")
            time.sleep(0.01)
        if process.returncode != 0:
            with open(self.place.file("program.log"), errors="replace") as log:
                raise RuntimeError(log.read()[-300:])
        return process.stdout.read(), usage

    def program(self, *command):
        command = [str(word) for word in command]
        return self.place.start(command, log="program.log", stdout=subprocess.PIPE, text=True)

    def load(self, *command):
        """examples/load.rs: its answer."""
        output, _ = self.finish(self.program(os.path.join(self.options.examples, "load"), *command))
        return json.loads(output.splitlines()[-1])

    def sdk(self, what, size, at_once, *keys):
        program = os.path.join(self.options.examples, "bare_sdk")
        command = [program, what, self.served.endpoint, rig.REGION, BUCKET, size, at_once, *keys]
        output, usage = self.finish(self.program(*command))
        return json.loads(output), usage

    # What is measured.

    def processes(self):
        return rig.family(self.process.pid) if self.process else []

    def memory(self, field):
        return sum(status_of(pid, field) for pid in self.processes())

    def counters(self):
        """Of the server, if it counts."""
        if self.server == "garage" or isinstance(self.contender, NullFuse):
            return None
        self.place.server.send_signal(signal.SIGUSR1)
        return json.loads(self.place.server.stdout.readline())

    @contextlib.contextmanager
    def measured(self):
        """Whatever is done inside, until the bucket has it. Gives a Run to fill in."""
        run = Run(0)
        cpu, counters = cpu_of(self.processes()), self.counters()
        yield run
        if counters and run.commits and self.contender.uploads_later:
            self.wait_for(run.commits, counters)
        after = self.counters()
        run.cpu = cpu_of(self.processes()) - cpu
        run.peak = self.memory("VmHWM")
        if after:
            run.requests = {
                name: count - counters["requests"].get(name, 0)
                for name, count in after["requests"].items()
                if count > counters["requests"].get(name, 0)
            }
            run.received = after["received"] - counters["received"]
            run.sent = after["sent"] - counters["sent"]

    def wait_for(self, commits, before):
        def committed(counters):
            return sum(counters["requests"].get(name, 0) for name in ("PutObject", "CompleteMultipartUpload"))

        expected = committed(before) + commits

        def there():
            counters = self.counters()
            return committed(counters) >= expected and not counters["under_way"]

        if not rig.wait_until(there, self.options.patience):
            raise TimeoutError(f"not uploaded within {self.options.patience} s")

    def timed(self, *command, commits=0):
        """A Run of one command of examples/load.rs."""
        with self.measured() as run:
            answer = self.load(*command)
            run.commits = commits
        run.seconds, run.bytes, run.operations = answer["seconds"], answer["bytes"], answer["operations"]
        return run

    def bare(self, what, size, at_once, *keys):
        """A Run of the SDK alone."""
        with self.measured() as run:
            answer, usage = self.sdk(what, size, at_once, *keys)
        run.cpu = usage.ru_utime + usage.ru_stime
        run.peak = usage.ru_maxrss * KIB
        run.seconds, run.bytes, run.operations = answer["seconds"], answer["bytes"], answer["operations"]
        return run

    def unmount(self):
        """In good order; returns how long it took until the process was gone."""
        command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        began = time.monotonic()
        subprocess.run([*command, self.point], timeout=60, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        while self.process.poll() is None:
            if rig.ending.is_set() or time.monotonic() - began > 60:
                raise RuntimeError("its process goes on")
            time.sleep(0.001)
        took = time.monotonic() - began
        self.process = None
        return took


def status_of(pid, field):
    """Bytes; 0 of one that is gone."""
    try:
        with open(f"/proc/{pid}/status") as lines:
            return next((int(line.split()[1]) * KIB for line in lines if line.startswith(field + ":")), 0)
    except OSError:
        return 0


def cpu_of(pids):
    """Seconds, with those of the children they have waited for."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as line:
                ticks += sum(int(field) for field in line.read().rpartition(")")[2].split()[11:15])
        except OSError:
            pass
    return ticks / TICKS
