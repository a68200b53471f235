"""A process of a family that has a file open: it does what it is told by datagrams, and says how that went.

    member.py FOLDER NAME FILE [DESCRIPTOR...]

FOLDER has a socket for each member, and one, `controller`, that hears them. `nursery` is none of the family: it begins the
first member, becomes the parent of whoever loses his, and ends with the last.
"""

import ctypes
import os
import socket
import sys

PR_SET_CHILD_SUBREAPER = 36
BLOCK = 128 << 10

folder, name, path = sys.argv[1:4]
copies = [int(number) for number in sys.argv[4:]]


def appear(as_name):
    """Answers where it can be told something."""
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(os.path.join(folder, as_name))
    return heard


def say(*words):
    heard.sendto(" ".join(map(str, (name, os.getpid(), *words))).encode(), os.path.join(folder, "controller"))


def inherited(descriptor):
    os.set_inheritable(descriptor, True)
    return descriptor


def write(count):
    while count:
        count -= os.write(copies[-1], bytes(min(count, BLOCK)))


if name == "nursery":
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.fork():
        while True:
            try:
                os.wait()
            except ChildProcessError:
                sys.exit(0)
    name = "0"
    heard = appear(name)
    copies = [inherited(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))]
else:
    heard = appear(name)
say("ready")
while True:
    act, *told = heard.recv(100).decode().split()
    try:
        if act == "write":
            write(int(told[0]))
        elif act == "sync":
            os.fsync(copies[0])
        elif act == "dup":
            copies.append(inherited(os.dup(copies[0])))
        elif act == "close":
            os.close(copies.pop(0))
        elif act == "spawn":
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        elif act == "fork":
            if not os.fork():
                name = told[0]
                heard.close()
                heard = appear(name)
                act = "ready"
        elif act == "exec":
            for copy in copies:
                os.set_inheritable(copy, told[0] == "keeps")
            kept = copies if told[0] == "keeps" else []
            os.unlink(os.path.join(folder, name))
            os.execv(sys.executable, [sys.executable, "-S", "-E", __file__, folder, name, path, *map(str, kept)])
        elif act == "exit":
            os._exit(int(told[0]))
        say(act)
    except OSError as error:
        say("error", act, error.errno)
