"""The scenarios of scripts/versus, run on every peer; see there."""

import argparse
import concurrent.futures
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import boto3
import botocore.client

import rig
from peers import Mountpoint, Rclone, S3fs, Served, Wholefs
from rig import Place, pause, wait_until

MIB = 1 << 20
# The file, in MiB, and how much of it is written at once before the writer becomes slow.
SIZE, FIRST = 96, 40
# For closes that are to be cut short: rclone sends a file in parts from 200 MiB on.
LARGE = 224
KEY = "file.bin"
BUCKET = "versus"
SHORT = b"short\n" * 100
# Bytes a second on each connection: parts take a second or so, and many of them are under way.
BANDWIDTH = "16M"
# For closes that are to be cut short: parts take some seconds.
SLOW_BANDWIDTH = "4M"
# When nothing has changed in a bucket for so many seconds, nothing is under way. What takes longest without
# being seen there: rclone begins an upload 5 seconds after the close, and sends 96 MiB in one request.
QUIET = 20


# --- One cell: a peer, mounted on a bucket of its own ----------------------------------------------


class Writer:
    """lib/writer.py under way."""

    def __init__(self, place, path, content):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "writer.py")
        command = [sys.executable, script, path, content]
        self.process = place.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = []
        self.over = False
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.said.append(line.strip())
        self.over = True

    @property
    def closed(self):
        return "close" in self.said

    @property
    def error(self):
        """What failed and why, as the writer was told."""
        last = (self.said or ["nothing"])[-1]
        return last.removeprefix("error ") if last.startswith("error") else f"no answer after `{last}`"

    def hears(self, answer, seconds=120):
        """Whether it said so in time, and did not end instead."""
        wait_until(lambda: answer in self.said or self.over, seconds)
        return answer in self.said

    def does(self, step):
        try:
            print(step, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass
        return self.hears("closing" if step == "begin-close" else step)

    def kill(self):
        self.process.kill()
        wait_until(lambda: self.process.poll() is not None, 30)


class Cell:
    def __init__(self, peer, place, options, large):
        self.peer, self.place = peer, place
        self.size, bandwidth = (LARGE, SLOW_BANDWIDTH) if large else (SIZE, BANDWIDTH)
        self.content = options.contents[self.size]
        # On disk: some tools at once with some copies each are much for a small machine's memory.
        kept = place.folder("bucket")
        self.endpoint = place.serve(options.wholefs, "--bucket", BUCKET, "--dir", kept, "--bandwidth", bandwidth)
        settings = botocore.client.Config(
            s3={"addressing_style": "path"}, connect_timeout=10, read_timeout=30, retries={"max_attempts": 3}
        )
        self.s3 = boto3.session.Session().client(
            "s3", endpoint_url=self.endpoint, region_name=rig.REGION, config=settings,
            aws_access_key_id=rig.ACCESS_KEY, aws_secret_access_key=rig.SECRET_KEY,
        )  # fmt: skip
        self.foreign = self.s3.create_multipart_upload(Bucket=BUCKET, Key=KEY)["UploadId"]
        self.s3.upload_part(Bucket=BUCKET, Key=KEY, UploadId=self.foreign, PartNumber=1, Body=b"foreign" * 1000)
        self.old = None
        self.writer = None
        self.notes = []
        self.looks = []
        self.point = place.folder("mnt")

    def have_old_object(self):
        self.old = random.Random(2).randbytes(MIB)
        self.s3.put_object(Bucket=BUCKET, Key=KEY, Body=self.old)

    def mount(self):
        for point in rig.mounted_below(self.point):
            rig.detach(point)
        self.process = self.place.mount(self.peer.command(self.place, Served(self.endpoint, BUCKET), self.point), self.point)

    @property
    def write_all(self):
        return f"write {self.size}"

    @property
    def path(self):
        return os.path.join(self.point, KEY)

    # What is in the bucket.

    def uploads(self):
        """Open uploads but the foreign one, with their numbers of parts."""
        found = {}
        pages = self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)
        for upload in (upload for page in pages for upload in page.get("Uploads", [])):
            if upload["UploadId"] != self.foreign:
                found[upload["UploadId"]] = self.count_parts(upload["Key"], upload["UploadId"])
        return found

    def count_parts(self, key, upload):
        """None when there is no such upload."""
        try:
            pages = self.s3.get_paginator("list_parts").paginate(Bucket=BUCKET, Key=key, UploadId=upload)
            return sum(len(page.get("Parts", [])) for page in pages)
        except self.s3.exceptions.NoSuchUpload:
            return None

    def parts(self):
        return sum(parts or 0 for parts in self.uploads().values())

    def object(self):
        """What the object is by its bytes: a kind, and its size."""
        try:
            found = self.s3.get_object(Bucket=BUCKET, Key=KEY)
        except self.s3.exceptions.NoSuchKey:
            return "absent", 0
        size = found["ContentLength"]
        head = found["Body"].read(MIB)
        if size == len(head) and head in (self.old, SHORT):
            return ("short" if head == SHORT else "old"), size
        if head.startswith(SHORT):
            return "untruncated", size
        with open(self.content, "rb") as content:
            block = head
            while block and block == content.read(len(block)):
                block = found["Body"].read(MIB)
        if block:
            return "wrong", size
        return ("whole" if size == self.size * MIB else "torn"), size

    def state(self):
        listed = self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return [(found["Key"], found["Size"], found["ETag"]) for found in listed], self.uploads()

    def settle(self, quiet=QUIET):
        """Until nothing has changed in the bucket for so long; two minutes at most."""
        last, since = self.state(), time.monotonic()

        def settled():
            nonlocal last, since
            pause(0.5)
            now = self.state()
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > quiet

        wait_until(settled, 120)

    # What is done.

    def write_half(self):
        """Leaves a writer in the middle of its file, with parts of it in the bucket if the tool uploads at all
        before the close."""
        writer = self.writer = Writer(self.place, self.path, self.content)
        self.must(writer.hears("open") and writer.does(f"write {FIRST}") and writer.does("slowly"))
        wait_until(lambda: self.parts() >= 2, 8)
        self.must(not writer.over)
        return writer

    def must(self, done):
        if not done:
            raise RuntimeError(f"the writer failed: {self.writer.error}")

    def close_slowly(self):
        """A writer whose close() is under way, or whatever the tool does after it, with parts in the bucket."""
        writer = self.write_half()
        self.must(writer.does(self.write_all) and writer.does("begin-close"))
        # It has said that it will: now it does.
        pause(0.5)
        # A tool that uploads only now is given the time to begin.
        wait_until(lambda: self.parts() >= 2 or self.object_is_whole(), 60)
        if self.object_is_whole():
            raise RuntimeError("the close was over before it could be cut short")
        if writer.closed:
            self.notes.append("close() had returned before the upload")
        return writer

    def object_is_whole(self):
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=KEY).get("Contents", [])
        return bool(listed) and listed[0]["Size"] == self.size * MIB

    def kill_daemon(self, everything=False):
        pids = self.peer.all_pids(self.process) if everything else [self.peer.serving(self.process)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.process.poll() is not None, 30 if everything else 5)

    def mount_again(self):
        """As after every end: the writer ends, the bucket is looked at, the tool is mounted and left alone."""
        if not wait_until(lambda: self.writer.process.poll() is not None, 5):
            self.writer.kill()
        # A dead tool begins nothing more.
        self.settle(quiet=QUIET if self.process.poll() is None else 5)
        self.look()
        if not wait_until(lambda: self.process.poll() is not None, 30):
            self.notes.append("the old process had to be killed")
            rig.end(self.process)
        self.mount()
        self.settle()
        self.look()

    def look(self):
        self.looks.append((*self.object(), [parts for parts in self.uploads().values() if parts is not None]))


# --- What was found ---------------------------------------------------------------------------------


class Finding:
    """A cell's verdict by the promise: whole or not there, and no upload left open."""

    def __init__(self, good, text):
        self.good, self.text = good, text

    def __str__(self):
        return {True: "✓ ", False: "✗ ", None: ""}[self.good] + self.text


def mib(size):
    return f"{size / MIB:.0f} MiB" if size > 10 * MIB else f"{size} bytes"


def name_object(cell, kind, size):
    lost = ", old file LOST" if cell.old else ""
    match kind:
        case "absent":
            return "old file LOST, no file" if cell.old else "no file"
        case "old":
            return "old file kept"
        case "whole" | "short":
            return f"{kind} file published"
        case "torn":
            return f"TORN: {mib(size) if size else 'nothing'} of {cell.size} MiB published" + lost
        case "untruncated":
            return f"WRONG: the short content and, up to {mib(size)}, what had been truncated"
        case "wrong":
            return f"WRONG: {mib(size)} of other bytes published" + lost


def name_uploads(uploads):
    if not uploads:
        return "0 uploads left"
    parts, count = sum(uploads), len(uploads)
    return f"{parts} part{'s' * (parts != 1)} left in {count} upload{'s' * (count != 1)}"


def judge(cell, allowed):
    texts = []
    for kind, size, uploads in cell.looks:
        text = f"{name_object(cell, kind, size)}, {name_uploads(uploads)}"
        if text not in texts:
            texts.append(text)
    kind, _, uploads = cell.looks[-1]
    good = kind in allowed and not uploads
    text = "; after the next mount: ".join(texts)
    if cell.writer and cell.writer.closed and kind in ("absent", "torn", "old"):
        good = False
        text += ", though close() had succeeded"
    return Finding(good, "; ".join([*cell.notes, text]))


# --- The scenarios: each ends with the bucket looked at and answers what may be there ----------------


def settle_and_look(cell):
    cell.settle()
    cell.look()


def writer_killed(cell):
    cell.mount()
    cell.write_half().kill()
    settle_and_look(cell)
    return {"absent"}


def overwriter_killed(cell):
    cell.have_old_object()
    cell.mount()
    cell.write_half().kill()
    settle_and_look(cell)
    return {"old"}


def closer_killed(cell):
    cell.mount()
    cell.close_slowly().kill()
    settle_and_look(cell)
    return {"absent", "whole"}


def interrupted_cp(cell):
    cell.mount()
    # From a slow source, or cp would be done, for a tool that uploads later, before anybody can interrupt it.
    source = cell.place.file("source")
    os.mkfifo(source)
    cp = cell.place.start(["cp", source, cell.path])
    feeder = Writer(cell.place, source, cell.content)
    if not (feeder.hears("open") and feeder.does(f"write {FIRST}") and feeder.does("slowly")):
        raise RuntimeError(f"cp could not write: status {cp.poll()}")
    wait_until(lambda: cell.parts() >= 2, 8)
    cp.send_signal(signal.SIGINT)
    if not wait_until(lambda: cp.poll() is not None, 30):
        cell.notes.append("cp did not end within 30 s")
    settle_and_look(cell)
    return {"absent"}


def unlinked(cell):
    cell.mount()
    writer = cell.write_half()
    command = ["timeout", "-k", "5", "30", "unlink", cell.path]
    removed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if removed.returncode != 0:
        reason = removed.stderr.strip().rsplit(": ", 1)[-1]
        cell.notes.append(f"unlink refused ({reason or 'no answer'})")
    pause(1)
    if writer.does(cell.write_all):
        writer.does("close")
    # It closed a file without a name: nothing is to be there.
    cell.writer = None
    settle_and_look(cell)
    return {"absent"}


def truncated(cell):
    cell.mount()
    writer = cell.write_half()
    for step in ("truncate", f"put {SHORT.hex()}", "close"):
        if not writer.does(step):
            cell.notes.append(f"refused: {writer.error}")
            break
    settle_and_look(cell)
    return {"short"}


def daemon_killed(cell, everything=False):
    cell.mount()
    cell.write_half()
    cell.kill_daemon(everything)
    cell.usable = wait_until(lambda: rig.answers(cell.point), 5)
    cell.mount_again()
    return {"absent"}


def all_killed(cell):
    return daemon_killed(cell, everything=True)


def closing_daemon_killed(cell):
    cell.mount()
    cell.close_slowly()
    cell.kill_daemon()
    cell.mount_again()
    return {"whole"} if cell.writer.closed else {"absent", "whole"}


def daemon_killed_after_close(cell):
    cell.mount()
    writer = cell.write_half()
    cell.must(writer.does(cell.write_all) and writer.does("close"))
    cell.kill_daemon()
    cell.mount_again()
    return {"whole"}


def daemon_stopped(cell):
    cell.mount()
    cell.write_half()
    cell.process.terminate()
    if not wait_until(lambda: cell.process.poll() is not None, 45):
        cell.notes.append("not stopped after 45 s")
    cell.mount_again()
    return {"absent"}


def unmounted(cell):
    cell.mount()
    writer = cell.write_half()
    rig.detach(cell.point)
    pause(5)
    # Whether it may go on is the tool's to say; if it may, to the end.
    if writer.does(cell.write_all):
        writer.does("close")
    cell.mount_again()
    return {"whole"} if writer.closed else {"absent", "whole"}


class Row:
    def __init__(self, text, scenario, large=False):
        self.text, self.scenario, self.large = text, scenario, large


ROWS = [
    Row("the writer is killed (SIGKILL) in the middle of a new file", writer_killed),
    Row("the same, overwriting an existing file", overwriter_killed),
    Row(f"the writer is killed while its close() of {LARGE} MiB is under way", closer_killed, large=True),
    Row("Ctrl-C on `cp` of a large file", interrupted_cp),
    Row("the file is unlinked while it is written; the writer finishes", unlinked),
    Row("truncated to 0 in the middle, something short written, closed", truncated),
    Row("the daemon is killed (SIGKILL) in the middle of a write, mounted again", daemon_killed),
    Row("every process of the tool (a guardian, too) is killed at once in the middle of a write, mounted again", all_killed),
    Row(f"the daemon is killed while a close() of {LARGE} MiB is under way, mounted again", closing_daemon_killed, large=True),
    Row("the daemon is killed when a close() has just succeeded, mounted again", daemon_killed_after_close),
    Row("the daemon is stopped (SIGTERM) in the middle of a write, mounted again", daemon_stopped),
    Row("`umount -l` in the middle of a write; the writer goes on as long as it may; mounted again", unmounted),
]
AFTER_DEATH = "the mount point once the daemon was killed"
FOREIGN = "somebody else's open upload to the same key, beside all that"


class Column:
    """All rows of one peer, one after the other."""

    def __init__(self, peer, options):
        self.peer, self.options = peer, options
        self.findings = {}
        self.usable = None
        self.foreign = []

    def run(self):
        for number in self.options.rows:
            row = ROWS[number - 1]
            if row.scenario is all_killed and not self.peer.has_guardian:
                self.findings[row] = Finding(None, "as when the daemon is killed: it has one process")
                continue
            with Place("versus") as place:
                try:
                    finding = self.fill(row, place)
                except Exception as error:
                    if rig.ending.is_set():
                        return
                    finding = Finding(None, f"could not be judged: {' '.join(str(error).split())}".replace("|", "/"))
                finally:
                    self.keep_logs(place, number)
            self.findings[row] = finding
            print(f"{self.peer.title} [{number}]: {row.text}: {finding}", file=sys.stderr, flush=True)

    def fill(self, row, place):
        cell = Cell(self.peer, place, self.options, row.large)
        allowed = row.scenario(cell)
        self.foreign.append(cell.count_parts(KEY, cell.foreign) == 1)
        if row.scenario is daemon_killed:
            self.usable = cell.usable
        return judge(cell, allowed)

    def keep_logs(self, place, number):
        if self.options.keep_logs:
            os.makedirs(self.options.keep_logs, exist_ok=True)
            for log in ("mount.log", "server.log"):
                if os.path.exists(place.file(log)):
                    name = f"{re.sub('[^a-z0-9]+', '-', self.peer.title)}-{number}-{log}"
                    shutil.copy(place.file(log), os.path.join(self.options.keep_logs, name))

    def cells(self):
        """Texts of rows and findings, those that come out of several cells among them."""
        for number in self.options.rows:
            row = ROWS[number - 1]
            yield row.text, self.findings[row]
            if row.scenario is daemon_killed:
                yield AFTER_DEATH, self.mount_point_after_death()
        harmed, times = self.foreign.count(False), len(self.foreign)
        if not times:
            yield FOREIGN, Finding(None, "could not be judged")
            return
        text = f"GONE {harmed} of {times} times" if harmed else f"still there, {times} of {times} times"
        yield FOREIGN, Finding(not harmed, text)

    def mount_point_after_death(self):
        if self.usable is None:
            return Finding(None, "could not be judged")
        dead = "dead until unmounted by hand (Transport endpoint is not connected)"
        return Finding(self.usable, "cleared at once" if self.usable else dead)


# --- The table ---------------------------------------------------------------------------------------


def table(columns):
    lines = [["what happens when…", *(column.peer.title for column in columns)]]
    lines.append(["---"] * len(lines[0]))
    for cells in zip(*(column.cells() for column in columns)):
        lines.append([cells[0][0], *(str(finding) for _, finding in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def chosen_peers(names, wholefs):
    known = {
        "wholefs": Wholefs(wholefs),
        "s3fs": S3fs(),
        "rclone": Rclone("writes"),
        "rclone-off": Rclone("off"),
        "mount-s3": Mountpoint(),
    }
    for name in names:
        if name not in known:
            sys.exit(f"scripts/versus: no peer is called {name}; there are {', '.join(known)}")
        if known[name].available():
            yield known[name]
        else:
            print(f"scripts/versus: no {known[name].program} here: going on without {name}", file=sys.stderr)


def make_content(path, size):
    random_bytes = random.Random(size).randbytes
    with open(path, "wb") as file:
        for _ in range(size):
            file.write(random_bytes(MIB))
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wholefs", required=True)
    parser.add_argument("--peers", type=lambda text: text.split(","))
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--markdown")
    parser.add_argument("--keep-logs")
    options = parser.parse_args()
    every_row = range(1, len(ROWS) + 1)
    options.rows = options.rows or list(every_row)
    if not set(options.rows) <= set(every_row):
        sys.exit(f"scripts/versus: the rows are 1 to {len(ROWS)}")
    rig.prepare()
    peers = list(chosen_peers(options.peers, options.wholefs))
    if not peers:
        sys.exit("scripts/versus: nothing to compare")
    versions = [f"{os.path.basename(peer.program)} {peer.version()}" for peer in peers]
    versions.append(f"Linux {platform.release()}")
    with Place("versus") as place, concurrent.futures.ThreadPoolExecutor(len(peers)) as pool:
        options.contents = {size: make_content(place.file(f"content-{size}"), size) for size in (SIZE, LARGE)}
        # The tools beside each other: nearly all the time they wait.
        columns = [Column(peer, options) for peer in peers]
        for running in [pool.submit(column.run) for column in columns]:
            running.result()
    if rig.ending.is_set():
        sys.exit(130)
    text = f"{table(columns)}\n\n{', '.join(dict.fromkeys(versions))}\n"
    print(text, end="")
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(text)
    ours = [column for column in columns if isinstance(column.peer, Wholefs)]
    if not all(finding.good for column in ours for _, finding in column.cells()):
        sys.exit("scripts/versus: wholefs does not keep its promise, or it could not be judged")


if __name__ == "__main__":
    main()
