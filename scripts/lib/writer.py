"""A program that writes a file step by step, as it is told on its standard input, and says how it went.

    writer.py FILE CONTENT

One thread, as most programs have. An error ends it with status 1, without closing the file in order.
"""

import errno
import os
import select
import sys

MIB = 1 << 20
BLOCK = 128 << 10

path, content = sys.argv[1:]
source = open(content, "rb")
slowly = False


def say(line):
    print(line, flush=True)


def write(block):
    while block:
        block = block[os.write(file, block) :]


def write_up_to(end):
    while source.tell() < end:
        write(source.read(min(BLOCK, end - source.tell())))


try:
    step = "open"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    say("open")
    while True:
        # A slow producer: in the middle of its writing whenever one looks.
        if slowly and not select.select([sys.stdin], [], [], 0.25)[0]:
            step = "write"
            write(source.read(BLOCK // 2))
            continue
        # Unbuffered, or select would not see what Python has read ahead.
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(0, 1)
            if not byte:
                sys.exit(0)
            line += byte
        step, *arguments = line.decode().split()
        slowly = step == "slowly"
        if step == "write":
            write_up_to(int(arguments[0]) * MIB)
        elif step == "truncate":
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
        elif step == "put":
            write(bytes.fromhex(arguments[0]))
        elif step in ("begin-close", "close"):
            say("closing")
            os.close(file)
            say("close")
            sys.exit(0)
        say(line.decode().strip())
except OSError as error:
    say(f"error {step} {errno.errorcode.get(error.errno, error.errno)}")
    os._exit(1)
