"""The tools that mount a bucket, and how each of them is told to."""

import dataclasses
import re
import shutil
import subprocess

import rig


@dataclasses.dataclass(frozen=True)
class Served:
    """A bucket somewhere."""

    endpoint: str
    bucket: str
    # What wholefs is to take the server for; nothing said, it promises itself least.
    provider: str | None = None


class Peer:
    """A tool and the way it is mounted. It has one process, the one that was started."""

    has_guardian = False
    # A close() that has returned says nothing of the bucket.
    uploads_later = False

    def __init__(self, title, program, version):
        self.title = title
        self.program = program
        self.version_command = version

    def available(self):
        return shutil.which(self.program) is not None

    def version(self):
        said = subprocess.run(self.version_command, capture_output=True, text=True, timeout=20).stdout
        found = re.search(r"\d+\.\d+(\.\d+)?", said)
        return found.group() if found else "of an unknown version"

    def command(self, place, served, point):
        raise NotImplementedError

    def remembering(self):
        """Further arguments with which names and sizes are believed for a minute at least, where that is not
        the default."""
        return []

    def serving(self, process):
        """The pid that answers the kernel."""
        return process.pid

    def all_pids(self, process):
        return [self.serving(process)]


class Wholefs(Peer):
    has_guardian = True

    def __init__(self, program, *options):
        super().__init__(" ".join(["wholefs", *(f"`{option}`" for option in options)]), program, [program, "--version"])
        self.options = options

    def command(self, place, served, point):
        provider = ["--provider", served.provider] if served.provider else []
        return [
            self.program, "mount", "--foreground", "--endpoint-url", served.endpoint, *provider, *self.options,
            "--state-dir", place.file("state"), f"s3://{served.bucket}", point,
        ]  # fmt: skip

    def remembering(self):
        return ["--metadata-ttl", "60s"]

    def serving(self, process):
        # What was started is the guardian.
        return rig.children(process.pid)[0]

    def all_pids(self, process):
        return [process.pid, self.serving(process)]


class S3fs(Peer):
    def __init__(self):
        super().__init__("s3fs", "s3fs", ["s3fs", "--version"])

    def command(self, place, served, point):
        options = f"url={served.endpoint},use_path_request_style,endpoint={rig.REGION},tmpdir={place.folder('tmp')}"
        return ["s3fs", served.bucket, point, "-f", "-o", options]


class Rclone(Peer):
    def __init__(self, mode):
        super().__init__(f"rclone (`--vfs-cache-mode {mode}`)", "rclone", ["rclone", "version"])
        self.mode = mode
        self.uploads_later = mode != "off"

    def command(self, place, served, point):
        remote = f":s3,provider=Other,env_auth=true,region={rig.REGION},endpoint='{served.endpoint}':{served.bucket}"
        return [
            "rclone", "mount", "--config", "", "--vfs-cache-mode", self.mode,
            "--cache-dir", place.folder("cache"), remote, point,
        ]  # fmt: skip


class Mountpoint(Peer):
    def __init__(self):
        super().__init__("mount-s3", "mount-s3", ["mount-s3", "--version"])

    def command(self, place, served, point):
        return [
            "mount-s3", "--foreground", "--endpoint-url", served.endpoint, "--force-path-style",
            "--region", rig.REGION, "--allow-delete", "--allow-overwrite", served.bucket, point,
        ]  # fmt: skip

    def remembering(self):
        return ["--metadata-ttl", "60"]


class Geesefs(Peer):
    # Its close() returns before the upload.
    uploads_later = True

    def __init__(self):
        super().__init__("geesefs", "geesefs", ["geesefs", "--version"])

    def command(self, place, served, point):
        return ["geesefs", "-f", "--endpoint", served.endpoint, "--region", rig.REGION, served.bucket, point]
