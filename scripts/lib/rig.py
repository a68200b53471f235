"""A temporary folder with servers, mounts and programs in it, which are all gone when it is left.

A signal to the script (Ctrl-C, SIGTERM, SIGHUP) sets `ending`; every wait ends with it, and so every
folder is left in order, by the thread that uses it.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ending = threading.Event()

# In the form that Garage wants keys in.
ACCESS_KEY, SECRET_KEY, REGION = "GK0123456789abcdef01234567", "0123456789abcdef" * 4, "us-east-1"


class Ended(Exception):
    """The script was told to end."""


def prepare():
    """To be called once, by the main thread, before anything is started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Also where they were ignored (a shell's background job): the programs started here inherit
        # an ignored signal, but not a handled one.
        signal.signal(number, lambda *_: ending.set())
    for name in list(os.environ):
        # Nothing of the caller's own accounts, settings or proxies.
        if name.startswith(("AWS", "S3FS", "RCLONE", "WHOLEFS")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWSACCESSKEYID": ACCESS_KEY,
        "AWSSECRETACCESSKEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_COLOR": "1",
        "RUST_BACKTRACE": "0",
        "LC_ALL": "C",
    }


def wait_until(condition, seconds):
    """Whether it came true within the time. Asks at least once."""
    deadline = time.monotonic() + seconds
    while True:
        if ending.is_set():
            raise Ended
        if condition():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def pause(seconds):
    wait_until(lambda: False, seconds)


def mounted_below(path):
    """The last mounted first."""
    with open("/proc/self/mountinfo") as lines:
        points = [line.split(" ")[4] for line in lines]
    return [point for point in reversed(points) if point == path or point.startswith(path + "/")]


def detach(point):
    """Takes a mount point away, whoever uses it and whether its daemon lives or not."""
    lazily = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
    try:
        subprocess.run([*lazily, point], timeout=20, stdin=subprocess.DEVNULL, capture_output=True)
    except subprocess.TimeoutExpired:
        pass


def drop_caches(which):
    """Has the kernel forget pages of files ("1"), or names ("2"): what only root can. Answers whether it did."""
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write(which)
    except OSError:
        return False
    return True


class Place:
    def __init__(self, name, below=None):
        self.path = os.path.realpath(tempfile.mkdtemp(prefix=f"wholefs-{name}-", dir=below))
        self.processes = []
        self.server = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for point in mounted_below(self.path):
            detach(point)
        # Servers last: a mount may want to say goodbye.
        for process in reversed(self.processes):
            end(process)
        if mounted_below(self.path):
            print(f"{self.path} is left behind: something is mounted there still", flush=True)
        else:
            shutil.rmtree(self.path, ignore_errors=True)

    def folder(self, name):
        path = os.path.join(self.path, name)
        os.makedirs(path, exist_ok=True)
        return path

    def file(self, name):
        return os.path.join(self.path, name)

    def start(self, command, log=None, **options):
        """A program in a session of its own: the terminal's Ctrl-C is for the script alone."""
        with open(self.file(log) if log else os.devnull, "ab") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output} | options
            process = subprocess.Popen(command, start_new_session=True, cwd=self.path, **options)
        self.processes.append(process)
        return process

    def serve(self, wholefs, *options):
        """The embedded bucket; returns its endpoint."""
        command = [wholefs, "bucket", "--listen", "127.0.0.1:0", *options]
        command += ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        self.server = server = self.start(command, log="server.log", stdout=subprocess.PIPE, text=True)
        endpoint = server.stdout.readline().strip()
        if not endpoint:
            raise RuntimeError("the server did not start: " + last_line(self.file("server.log")))
        return endpoint

    def serve_garage(self, garage, bucket):
        """A Garage node; returns its endpoint."""
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        s3, rpc = (listening.getsockname()[1] for listening in sockets)
        with open(self.file("garage.toml"), "w") as file:
            file.write(
                f'metadata_dir = "{self.path}/meta"\ndata_dir = "{self.path}/data"\ndb_engine = "lmdb"\n'
                f'replication_factor = 1\nrpc_bind_addr = "127.0.0.1:{rpc}"\nrpc_public_addr = "127.0.0.1:{rpc}"\n'
                f'rpc_secret = "{SECRET_KEY}"\n'
                f'[s3_api]\napi_bind_addr = "127.0.0.1:{s3}"\ns3_region = "{REGION}"\n'
            )
        # Free when they were chosen; if somebody takes one meanwhile, it does not start.
        for listening in sockets:
            listening.close()
        command = [garage, "-c", self.file("garage.toml"), "server", "--single-node", "--default-bucket"]
        keys = {"GARAGE_DEFAULT_ACCESS_KEY": ACCESS_KEY, "GARAGE_DEFAULT_SECRET_KEY": SECRET_KEY}
        environment = os.environ | keys | {"GARAGE_DEFAULT_BUCKET": bucket}
        self.server = server = self.start(command, log="server.log", env=environment)

        # It listens only after the bucket is made.
        def up():
            with socket.socket() as tried:
                return tried.connect_ex(("127.0.0.1", s3)) == 0

        if not wait_until(lambda: up() or server.poll() is not None, 60) or server.poll() is not None:
            raise RuntimeError("Garage did not start: " + last_line(self.file("server.log")))
        return f"http://127.0.0.1:{s3}"

    def mount(self, command, point, log="mount.log"):
        """Starts a filesystem in the foreground and returns when it answers."""
        process = self.start(command, log=log)
        mounted = lambda: point in mounted_below(point) and answers(point)
        if not wait_until(lambda: mounted() or process.poll() is not None, 60) or not mounted():
            raise RuntimeError("not mounted: " + last_line(self.file(log)))
        return process


def end(process):
    """In good order if it goes within ten seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                print(f"process {process.pid} cannot be killed", flush=True)


def end_group(process):
    """Of a program that `Place.start` began: it, and what it has started. It may be one that only SIGKILL ends."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def children(pid):
    """Whichever of its threads has started them."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as pids:
                found += [int(child) for child in pids.read().split()]
    except OSError:
        pass
    return found


def family(pid):
    """A process and all below it."""
    return [pid, *(below for child in children(pid) for below in family(child))]


def answers(point):
    """In a process of its own, for a dead daemon may never answer."""
    try:
        looked = subprocess.run(["ls", point], timeout=5, stdin=subprocess.DEVNULL, capture_output=True)
        return looked.returncode == 0
    except subprocess.TimeoutExpired:
        return False


def last_line(path):
    with open(path, errors="replace") as log:
        lines = log.read().split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
