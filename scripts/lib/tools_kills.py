"""scripts/tools --kills: the scenarios with the daemon killed at random moments; see there.

What an object may be is learnt from runs that nobody disturbs: a recorder between the mount and the server
reads every version that is committed. After a kill, an object must have the content of one of them.
"""

import collections
import contextlib
import dataclasses
import hashlib
import hmac
import http.client
import http.server
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree

import rig
import tools_matrix as tools
from rig import Place
from tools_matrix import Scenario

# Undisturbed runs: what differs between them is not the same twice.
RECORDED = 2
# How long a tool may go on once its disk is gone, until it is killed.
GRACE = 5
# How long recovery may take.
RECOVERY = 60

# Tools that are of interest only when something dies; without that, `scripts/test` runs them.
DESTRUCTIVE = [
    Scenario("fsx", """
        cat > "$TMPDIR"/settings <<END
            flen = 12582912
            [opsize]
            max = 262144
            [weights]
            close_open = 1
            read = 10
            write = 10
            mapread = 5
            mapwrite = 5
            truncate = 5
            fsync = 0.2
            fdatasync = 0.2
            posix_fallocate = 1
            punch_hole = 3
            copy_file_range = 3
END
        fsx -q -f "$TMPDIR"/settings -P "$TMPDIR" -S 7 -N 2000 file > /dev/null
    """, needs=("fsx",)),
    Scenario("stress-ng", """
        all=(aio chmod chown copy-file dentry dir dirdeep fallocate file-ioctl filename flock fpunch fstat getdent
            hdd io iomix lease lockf mmap open readahead rename revio seek symlink sync-file touch utime xattr)
        stress-ng --temp-path . --verify --timeout 4 $(printf -- '--%s 1 ' "${all[@]}") > "$TMPDIR"/said 2>&1 ||
            { cat "$TMPDIR"/said >&2; false; }
    """, needs=("stress-ng",)),
]  # fmt: skip


# --- The bucket, without wholefs -----------------------------------------------------------------


def signed(host, path, query):
    """The headers of a GET that the server believes (AWS Signature Version 4)."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = {"host": host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
    names = ";".join(headers)
    lines = [f"{name}:{value}" for name, value in headers.items()]
    request = "\n".join(["GET", path, query, *lines, "", names, "UNSIGNED-PAYLOAD"])
    scope = [now[:8], rig.REGION, "s3", "aws4_request"]
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), digest])
    key = f"AWS4{rig.SECRET_KEY}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    credential = "/".join([rig.ACCESS_KEY, *scope])
    said = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return headers | {"authorization": said}


@dataclasses.dataclass(frozen=True)
class Content:
    digest: str
    size: int

    @staticmethod
    def of(data):
        return Content(hashlib.md5(data).hexdigest(), len(data))


class Bucket:
    """For one thread."""

    def __init__(self, endpoint):
        self.host = urllib.parse.urlsplit(endpoint).netloc
        self.connection = http.client.HTTPConnection(self.host, timeout=60)

    def get(self, path, **parameters):
        """The answer's status and body. The path is percent-encoded already."""
        query = urllib.parse.urlencode(sorted(parameters.items()), quote_via=urllib.parse.quote)
        self.connection.request("GET", f"{path}?{query}", headers=signed(self.host, path, query))
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def keys(self, prefix):
        last = ""
        while True:
            parameters = {"list-type": "2", "prefix": prefix, "start-after": last}
            status, body = self.get(f"/{tools.BUCKET}", **parameters)
            if status != 200:
                raise RuntimeError(f"the bucket cannot be listed: {status} {body[:300]}")
            found = [key.text for key in xml.etree.ElementTree.fromstring(body).iterfind("{*}Contents/{*}Key")]
            if not found:
                return
            yield from found
            last = found[-1]

    def contents(self, prefix):
        """Of every object, by its name below the prefix."""
        found = {}
        for key in self.keys(prefix):
            status, body = self.get(f"/{tools.BUCKET}/{urllib.parse.quote(key)}")
            if status != 200:
                raise RuntimeError(f"{key} is listed and cannot be read: {status}")
            found[key.removeprefix(prefix)] = Content.of(body)
        return found


# --- What an object may be -----------------------------------------------------------------------


class Recorder(http.server.ThreadingHTTPServer):
    """Stands before the server and reads every version that is committed, before the client hears of it."""

    daemon_threads = True

    def __init__(self, endpoint):
        super().__init__(("127.0.0.1", 0), Passing)
        self.upstream = endpoint
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.committed = []

    def versions(self, prefix):
        """The contents that each name below the prefix has had."""
        versions = collections.defaultdict(set)
        for key, content in self.committed:
            if key.startswith(prefix):
                versions[key.removeprefix(prefix)].add(content)
        return versions

    def handle_error(self, *_):
        """A mount that ends closes its connections, whatever comes in just then."""


class Passing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out in one piece.
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.bucket = Bucket(self.server.upstream)

    def finish(self):
        self.bucket.connection.close()
        super().finish()

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        onward = self.bucket.connection
        # The host as well is what was signed.
        onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            onward.putheader(name, value)
        onward.endheaders(body)
        answer = onward.getresponse()
        data = answer.read()
        if answer.status == 200:
            self.record()
        self.send_response_only(answer.status)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        if headers.pop("transfer-encoding", None):
            headers["content-length"] = str(len(data))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    def record(self):
        path, _, query = self.path.partition("?")
        # PutObject and CopyObject, or CompleteMultipartUpload: not a part, not the beginning of an upload.
        if self.command == ("POST" if "uploadId=" in query else "PUT"):
            status, body = self.bucket.get(path)
            if status == 200:
                key = urllib.parse.unquote(path).removeprefix(f"/{tools.BUCKET}/")
                self.server.committed.append((key, Content.of(body)))

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def recording(endpoint):
    with Recorder(endpoint) as recorder:
        threading.Thread(target=recorder.serve_forever, daemon=True).start()
        yield recorder
        recorder.shutdown()


class Versions:
    """What the objects have been in runs that nobody disturbed."""

    def __init__(self):
        # One a run: the contents of each name.
        self.runs = []

    def of(self, name):
        """For each run what an object of that name was. Names that are not in every run are made up by
        the tool (`.big.x7Rq2b`), and stand for each other."""
        kept = set.intersection(*(set(run) for run in self.runs))
        if name in kept:
            return [run[name] for run in self.runs]
        return [set().union(*(run[other] for other in run if other not in kept)) for run in self.runs]

    def judge(self, name, content):
        seen = self.of(name)
        if content in set().union(*seen):
            return "whole"
        if all(contents == seen[0] for contents in seen):
            return "torn"
        # What differs from run to run (it has times in it, or the order of concurrent writers) may have its
        # size in common.
        sizes = [{content.size for content in contents} for contents in seen]
        return "torn" if all(s == sizes[0] for s in sizes) and content.size not in sizes[0] else "unchecked"


# --- Killing -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Row:
    name: str
    # None: it was left out.
    good: object = True
    kills: int = 0
    # Kills while the tool ran, and not just after it.
    amid: int = 0
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    uploads: int = 0
    remarks: list = dataclasses.field(default_factory=list)

    def __str__(self):
        counts = [f"{self.kills} ({self.amid})", self.counts["whole"], self.counts["unchecked"]]
        return tools.in_a_row(self.name, *counts, *tools.verdict(self.good, self.remarks))


class Trial(tools.Runner):
    """One scenario on a bucket of its own."""

    def __init__(self, place, url, wholefs, endpoint, scenario):
        super().__init__(place, url)
        self.wholefs, self.endpoint, self.scenario = wholefs, endpoint, scenario
        self.point, self.state = place.folder("mnt"), place.folder("state")
        self.log = f"{tools.slug(scenario.name)}.log"
        self.versions, self.uploads = Versions(), set()
        # The quickest run yet.
        self.seconds = float("inf")
        self.row = Row(scenario.name)

    def mount(self, prefix, endpoint, guarded=True):
        options = ["--foreground", "--xattrs", "--part-size", tools.PART, "--endpoint-url", endpoint, "--state-dir", self.state]
        options += [] if guarded else ["--no-guardian"]
        command = [self.wholefs, "mount", *options, f"s3://{tools.BUCKET}/{prefix}", self.point]
        return self.place.mount(command, self.point, log=self.log)

    def unmount(self, mount):
        rig.end(mount)
        if mount.returncode != 0:
            self.remark(f"a mount ended with {mount.returncode}")

    def remark(self, text):
        self.row.good = False
        self.row.remarks.append(text)

    def note(self, text):
        if text not in self.row.remarks:
            self.row.remarks.append(text)

    def run_undisturbed(self):
        """The recorder slows everything down: how long it takes is measured without it."""
        mount = self.mount("undisturbed/", self.endpoint)
        self.compare("undisturbed")
        self.unmount(mount)

    def record(self):
        prefix = f"recorded-{len(self.versions.runs)}/"
        with recording(self.endpoint) as recorder:
            mount = self.mount(prefix, recorder.endpoint)
            _, outcome = self.run(self.scenario, self.point)
            self.unmount(mount)
            self.versions.runs.append(recorder.versions(prefix))
        if outcome.status != 0:
            raise RuntimeError(f"it fails undisturbed ({outcome.status}): {tools.last_line(outcome.stderr)}")

    def kill(self, moment, guarded):
        """Everything that is to be so after the daemon was killed that many seconds into the scenario."""
        self.row.kills += 1
        prefix = f"killed-{self.row.kills}/"
        when = f"kill {self.row.kills}, {moment:.3f} s, {'guarded' if guarded else 'no guardian'}"
        self.die(self.mount(prefix, self.endpoint, guarded), moment, guarded, when)
        mount = self.mount(prefix, self.endpoint)
        self.await_recovery(when)
        objects = Bucket(self.endpoint).contents(prefix)
        self.judge_files(objects, when)
        self.compare(f"{when}, run anew")
        self.unmount(mount)
        self.judge_objects(objects, when)

    def die(self, mount, moment, guarded, when):
        # What was started is the guardian, if there is one.
        daemon = rig.children(mount.pid)[0] if guarded else mount.pid
        running = self.begin(self.scenario, self.point)
        if rig.ending.wait(moment):
            raise rig.Ended
        os.kill(daemon, signal.SIGKILL)
        self.row.amid += running.script.poll() is None
        self.end(running, GRACE)
        # Also what it has left in the background: nobody is to come back when there is a mount again.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.script.pid, signal.SIGKILL)
        if not rig.wait_until(lambda: mount.poll() is not None, RECOVERY):
            self.remark(f"{when}: the guardian did not end")
        if guarded:
            if rig.mounted_below(self.point):
                self.remark(f"{when}: the guardian did not clear the mount point")
            self.count_uploads(f"{when}: the guardian left open")
        for point in rig.mounted_below(self.point):
            rig.detach(point)
        # What the tool wrote by an absolute path when the mount was gone.
        shutil.rmtree(self.point)
        os.mkdir(self.point)

    def await_recovery(self, when):
        """The dead mount's journal is removed when all that it holds is over."""
        journals = lambda: [name for name in os.listdir(self.state) if os.path.exists(f"{self.state}/{name}/journal")]
        if not rig.wait_until(lambda: len(journals()) == 1, RECOVERY):
            self.remark(f"{when}: journals after recovery: {', '.join(journals())}")
        self.count_uploads(f"{when}: left open after recovery")

    def count_uploads(self, text):
        store = [f"s3://{tools.BUCKET}", "--endpoint-url", self.endpoint, "--state-dir", self.state]
        for upload in tools.open_uploads(self.wholefs, store):
            # One that stays is found more than once.
            if upload["upload_id"] not in self.uploads:
                self.uploads.add(upload["upload_id"])
                self.remark(f"{text}: {json.dumps(upload)}")

    def judge_objects(self, objects, when):
        judged = {name: self.versions.judge(name, content) for name, content in objects.items()}
        if "torn" in judged.values():
            # Perhaps the recorded runs have only not come upon it: programs that run at once are not
            # always as quick as each other.
            self.record()
            judged = {name: self.versions.judge(name, content) for name, content in objects.items()}
        self.row.counts.update(judged.values())
        for name, found in judged.items():
            if found == "torn":
                self.remark(f"{when}: TORN {name}: {self.describe(name, objects[name])}")
            elif found == "unchecked":
                self.note("unchecked: contents that are not the same in all undisturbed runs")

    def describe(self, name, content):
        known = sorted({content.size for contents in self.versions.of(name) for content in contents})
        return f"{content.size} bytes ({content.digest}); whole versions have {known}"

    def judge_files(self, objects, when):
        """Each can be read to its end, and is what the bucket has."""
        found = dict.fromkeys(name.rstrip("/") for name in objects)
        for path in tools.paths_below(self.point):
            found.pop(path, None)
            try:
                wrong = self.wrong_with(path, objects)
            except OSError as error:
                wrong = str(error)
            if wrong:
                self.remark(f"{when}: {path}: {wrong}")
        for name in found:
            self.remark(f"{when}: {name}: in the bucket, and not in the mount")

    def wrong_with(self, path, objects):
        whole = os.path.join(self.point, path)
        status = os.lstat(whole)
        # What was killed between a chmod and another is not to be read by its owner even.
        if not stat.S_ISREG(status.st_mode) or not os.access(whole, os.R_OK):
            return None
        with open(whole, "rb") as file:
            content = Content.of(file.read())
        if content.size != status.st_size:
            return f"{content.size} bytes can be read of {status.st_size}"
        return None if objects.get(path) == content else "not what the bucket has"

    def compare(self, when):
        """What the scenario leaves on the mount as it is now with what it leaves on a local disk."""
        fresh = os.path.join(self.point, "fresh")
        os.mkdir(fresh)
        begun = time.monotonic()
        folder, outcome = self.run(self.scenario, fresh)
        self.seconds = min(self.seconds, time.monotonic() - begun)
        found = list(tools.told_differently(self.expected, outcome))
        found += tools.differences(self.local, tools.look_below(folder, self.scenario.times))
        for text in tools.undeclared(self.scenario, found)[0]:
            self.remark(f"{when}: {text}")
        self.count_uploads(f"{when}: left open")

    def judge(self, kills, chance):
        local = self.place.folder("local")
        self.local, self.expected = self.run_locally(self.scenario, local)
        shutil.rmtree(local)
        self.run_undisturbed()
        for _ in range(RECORDED):
            self.record()
        for number in range(kills):
            self.kill(chance.uniform(0, self.seconds), guarded=number % 2 == 0)


def judge(place, url, options, scenario):
    if tools.absent(scenario):
        return Row(scenario.name, None, remarks=[tools.absent(scenario)])
    endpoint = place.serve(options.wholefs, "--bucket", tools.BUCKET, "--dir", place.folder("bucket"))
    server = place.processes[-1]
    trial = Trial(place, url, options.wholefs, endpoint, scenario)
    try:
        # The same moments whichever scenarios are run.
        trial.judge(options.kills, random.Random(f"{options.seed} {scenario.name}"))
    except (RuntimeError, OSError, subprocess.SubprocessError, http.client.HTTPException) as error:
        trial.remark(f"could not be judged: {error}")
    # What an error has left is not to be in the next one's way.
    for point in rig.mounted_below(trial.point):
        rig.detach(point)
    for process in reversed(place.processes[place.processes.index(server) :]):
        rig.end(process)
    for name in ("bucket", "local", "mnt", "scratch", "state"):
        shutil.rmtree(place.file(name), ignore_errors=True)
    trial.row.uploads = len(trial.uploads)
    return trial.row


HEAD = "| scenario | kills (amid) | objects found whole | unchecked | result | remark |\n| --- | --- | --- | --- | --- | --- |"


def tell_totals(rows):
    counts = sum((row.counts for row in rows), collections.Counter())
    kills, amid, uploads = (sum(getattr(row, name) for row in rows) for name in ("kills", "amid", "uploads"))
    judged = sum(row.good is not None for row in rows)
    print(
        f"\n{judged} scenarios, {kills:,} kills ({amid:,} while a tool ran), {counts['whole']:,} objects whole, "
        f"{counts['unchecked']:,} unchecked, {counts['torn']:,} torn, {uploads:,} uploads left"
    )


def main():
    parser = tools.arguments()
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    scenarios = [*tools.SCENARIOS, *DESTRUCTIVE]
    if options.list:
        return tools.tell_names(scenarios)
    scenarios = tools.chosen(scenarios, options.only)
    rig.prepare()
    print(f"The moments are those of --seed {options.seed}.\n")
    with Place("tools", below="/var/tmp") as place, tools.serving(place.folder("data")) as url:
        tools.make_inputs(place.file("data"))
        try:
            rows = list(tools.tell_rows(HEAD, lambda scenario: judge(place, url, options, scenario), scenarios))
        except rig.Ended:
            sys.exit(130)
        finally:
            tools.keep_logs(place, options.keep_logs)
    tell_totals(rows)
    tools.write_table(options.markdown, HEAD, rows)
    tools.tell_omissions(rows)
    if any(row.good is False for row in rows):
        sys.exit("scripts/tools: after a kill something is torn, left open or not as on a local disk")


if __name__ == "__main__":
    main()
