"""The scenarios of scripts/tools, run on a mounted bucket and on a local disk; see there."""

import argparse
import contextlib
import dataclasses
import difflib
import fnmatch
import functools
import glob
import hashlib
import http.server
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading

import rig
from rig import Place

MIB = 1 << 20
BUCKET = "tools"
# The smallest that stores take, so that files of some MiB go up in parts.
PART = "5M"
# How long one script may take, on either disk.
PATIENCE = 90
# 2023-11-14 22:13:20.123456789: a time no tool comes upon by itself.
THEN = 1_700_000_000_123_456_789


# --- The scenarios -------------------------------------------------------------------------------


@dataclasses.dataclass
class Scenario:
    """A script for bash, started in an empty directory of each disk.

    It finds the inputs at $DATA (see `make_inputs`), the same served over HTTP at $URL, and a local folder for
    everything that is not to be compared at $TMPDIR. It prints what else is to be the same, and fails on
    the local disk never: what may fail is asked with `|| echo`.
    """

    name: str
    script: str
    # Programs, beyond those that every Debian has.
    needs: tuple = ()
    # Which files' times are to be the same to the nanosecond: those that the tool keeps or sets.
    times: str = ""
    # What differs, as a pattern of the difference's text, and why that is right. Each must be found.
    deviations: dict = dataclasses.field(default_factory=dict)


def python(script):
    return f"python3 -B - <<'END'\n{script}\nEND\n"


COPYING = [
    Scenario("cp", """
        cp "$DATA"/{empty,small,lines,five,big} .
        cp big copy
        cp -b small lines
        cp --remove-destination five small
        cp -n lines copy || true
        cp -T big 'a name with blanks and ümläuts'
    """),
    Scenario("cp -a", """
        cp -a "$DATA"/tree "$DATA"/big .
        cp -a tree again
        cp -a again "$TMPDIR"/out && diff -r --no-dereference "$DATA"/tree "$TMPDIR"/out && echo same
    """, times="*"),
    Scenario("cp -r", """
        cp -r "$DATA"/tree .
        cp -L "$DATA"/tree/link followed
        cp -r tree again
        cp -r tree again
    """),
    Scenario("cp -u and cp -p", """
        cp -p "$DATA"/{small,lines,big} .
        touch -d '2001-01-01 00:00:00.000000001' small
        touch lines
        echo newer > lines
        cp -pu "$DATA"/{small,lines} .
        rm lines
    """, times="*"),
    Scenario("cp --sparse=always", """
        cp --sparse=always "$DATA"/sparse a
        cp --sparse=always a b
        cp --sparse=never b c
        cp --sparse=auto a d
        cp --sparse=always d "$TMPDIR"/out && cmp "$DATA"/sparse "$TMPDIR"/out && echo same
        cp --sparse=always "$DATA"/big big
    """),
    Scenario("cp -al and ln", """
        cp "$DATA"/small .
        ln small other 2> "$TMPDIR"/said || echo "${?}: $(sed 's/.*: //' "$TMPDIR"/said)"
        mkdir tree
        cp "$DATA"/lines tree
        cp -al tree linked 2> /dev/null || echo $?
    """, deviations={
        r"^stdout.*1: Operation not permitted": "hard links are refused with EPERM",
        r"^(other|linked/lines): missing": "hard links are refused with EPERM",
    }),
    Scenario("mv", """
        cp -a "$DATA"/tree "$DATA"/big "$DATA"/small "$TMPDIR"
        mv "$TMPDIR"/tree "$TMPDIR"/big "$TMPDIR"/small .
        cp -a big other
        mv big renamed
        mv -f small other
        mv renamed tree/executable
        mv tree moved
        mkdir empty
        mv -T moved empty
        mv -b other empty/script
        mkdir full && touch full/file
        mv -T empty full 2> /dev/null || echo refused
        mv -n empty/script full/file || true
        mv empty/executable "$TMPDIR"/out && md5sum < "$TMPDIR"/out && mv "$TMPDIR"/out back
        rm -r full
    """, times="*/*"),
    Scenario("rm -rf", """
        cp -r "$DATA"/tree .
        cp -r "$DATA"/tree kept
        rm -rf tree
        rm -rf kept/below kept/with*
        rmdir kept/hollow
        rm kept/nothing 2> /dev/null || echo $?
        mkdir many && touch many/{1..300} && rm -rf many
        ls
    """),
    Scenario("ln -s", """
        cp "$DATA"/lines file
        mkdir folder
        ln -s file relative
        ln -s "$DATA"/small absolute
        ln -s nowhere dangling
        ln -s ../file folder/up
        ln -sf folder/up relative
        ln -sfn folder directory
        ln -sr file folder/made
        cat relative absolute | md5sum
        echo more >> folder/up
        readlink relative dangling directory folder/made
        test -e dangling || echo dangles
        mv relative other
    """),
    Scenario("install", """
        install -m 4750 "$DATA"/small program
        install -D -p -m 600 "$DATA"/lines deep/er/lines
        install -d -m 2711 folder
        install -b -m 644 "$DATA"/five program
        install -C "$DATA"/big big && install -C "$DATA"/big big
        [ $UID != 0 ] || install -o 12 -g 34 "$DATA"/small owned
    """, times="deep/er/lines"),
    Scenario("touch -d", """
        cp "$DATA"/small a
        touch -d '1999-12-31 23:59:59.999999999 UTC' a
        touch -d @0.000000001 b
        touch -d '2038-01-19 03:14:08 UTC' c
        touch -r a d
        ln -s a link && touch -h -d @1234567890.5 link
        mkdir folder && touch -d @1234567890.25 folder
        touch -m -d @1700000000 b
        touch -c nothing
        test -e nothing || echo nothing
    """, times="*"),
    Scenario("chmod and chown", """
        cp "$DATA"/small a
        cp "$DATA"/big b
        chmod u+s,g+s,o-r a && chmod 0 b && chmod u+rw b
        mkdir -m 1777 shared && chmod g+s shared
        if [ $UID = 0 ]; then chown 12:34 b && chown -h :56 shared && ln -s a link && chown -h 7:8 link; fi
        echo written >> b
        stat -c '%n %a %u %g' *
    """),
    Scenario("chmod g+s on a directory", """
        mkdir shared && chmod g+s shared
        [ $UID != 0 ] || chgrp 34 shared
        touch shared/file && mkdir shared/below && cp "$DATA"/big shared
        stat -c '%n %a %g' shared/*
    """),
    Scenario("the time of a directory", """
        mkdir shared && touch -d @1700000000 shared "$TMPDIR"/then
        after() {
            "$@"
            if [ shared -nt "$TMPDIR"/then ]; then echo "changed by $*"; else echo "kept by $*"; fi
            touch -d @1700000000 shared
        }
        after touch shared/file
        after mv shared/file shared/other
        after ln -s other shared/link
        after truncate -s 9 shared/other
        after chmod 600 shared/other
        after rm shared/other
        after mkdir shared/below
        after touch shared/below/file
        after rm -r shared/below
    """),
]

CHANGING = [
    Scenario("truncate", """
        cp "$DATA"/{small,lines,five,big} .
        truncate -s 10 small
        truncate -s +1000 lines
        truncate -s -1 five
        truncate -s 6000000 big
        truncate -s 0 none
        truncate -s 7M new
        truncate -r small same
        truncate -s %4096 lines
        truncate -s 100M wide && truncate -s 5 wide
    """),
    # Closed at that size it would have to be published; local disks keep it for nothing.
    Scenario("a terabyte of hole", python("""
import os
fd = os.open("huge", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(fd, 1 << 40)
os.pwrite(fd, b"written", 500 << 30)
print(os.fstat(fd).st_size, os.pread(fd, 9, (500 << 30) - 1))
os.ftruncate(fd, 5)
os.close(fd)
""")),
    Scenario("fallocate", """
        fallocate -l 3M new
        cp "$DATA"/big kept && fallocate -n -o 4M -l 20M kept && stat -c %s kept
        cp "$DATA"/big punched && fallocate -p -o 3M -l 4M punched
        cp "$DATA"/big zeroed && fallocate -z -o 11M -l 4M zeroed
        cp "$DATA"/small grown && fallocate -o 6M -l 1M grown
        cp "$DATA"/sparse dug && fallocate -d dug
        fallocate -x -l 100000 written
        fallocate -l 0 none 2> /dev/null || echo refused
    """),
    Scenario("fallocate --collapse-range", """
        cp "$DATA"/big collapsed
        cp "$DATA"/big inserted
        fallocate -c -o 1M -l 1M collapsed 2> /dev/null || echo refused
        fallocate -i -o 1M -l 1M inserted 2> /dev/null || echo refused
    """, deviations={
        r"^stdout.*refused": "ranges are not taken out or put in: EOPNOTSUPP, as on most disks",
        r"^(collapsed|inserted): (size|bytes)": "they are as they were",
    }),
    Scenario("dd", """
        cp "$DATA"/{small,big} .
        dd if="$DATA"/lines of=big bs=1000 seek=3000 count=100 conv=notrunc status=none
        dd if="$DATA"/lines of=small bs=1k seek=20 conv=notrunc status=none
        dd if="$DATA"/big of=gap bs=1M seek=6 status=none
        dd if="$DATA"/big of=synced bs=3M conv=fsync status=none
        dd if="$DATA"/sparse of=holes bs=64k conv=sparse status=none
        dd if="$DATA"/lines of=every bs=50k oflag=sync status=none
        dd if="$DATA"/lines of=appended oflag=append conv=notrunc status=none
        dd if="$DATA"/lines of=appended oflag=append conv=notrunc status=none
        dd if=big of=tail bs=1M skip=9 status=none
        dd if="$DATA"/five of=big bs=1M seek=2 status=none
    """),
    Scenario("dd oflag=direct", """
        dd if="$DATA"/big of=big bs=1M oflag=direct status=none
        dd if=big bs=1M iflag=direct status=none | md5sum
        dd if="$DATA"/five of=big bs=64k seek=40 oflag=direct conv=notrunc status=none
        dd if=big of=copy bs=1M iflag=direct oflag=direct status=none
        dd if=big bs=4k skip=2900 iflag=direct status=none | md5sum
    """),
    Scenario("tee -a", """
        tee one two < "$DATA"/lines | md5sum
        tee -a one new < "$DATA"/big > /dev/null
        echo end | tee -a one two new
    """),
    Scenario("split", """
        split -b 5M "$DATA"/big big-
        split -n l/4 --additional-suffix=.txt "$DATA"/lines lines-
        split -l 20000 -d --filter='gzip -n > $FILE.gz' "$DATA"/lines packed-
        cat big-* | md5sum
        cat lines-*.txt | md5sum
    """),
    Scenario("sort -o the same file", """
        cp "$DATA"/lines .
        sort -R --random-source="$DATA"/big lines -o lines
        sort -n -o lines lines
        sort -u -S 64k -T . -o unique lines
    """),
    Scenario("sed -i", """
        cp "$DATA"/lines . && cp lines other && chmod 640 other
        sed -i 's/7/seven/' lines
        sed -i.bak '1,100d' other
        ln -s other link && sed -i --follow-symlinks '$d' link
    """),
    Scenario("patch", """
        cp "$DATA"/lines lines
        sed '5d; 200s/$/ more/; 20000i new' lines > "$TMPDIR"/new
        diff -u --label lines --label lines lines "$TMPDIR"/new > "$TMPDIR"/diff || true
        patch -b < "$TMPDIR"/diff
        patch -R -o older lines "$TMPDIR"/diff
        printf -- '--- /dev/null\\n+++ made/new\\n@@ -0,0 +1 @@\\n+line\\n' | patch -p0
        patch -f lines < "$TMPDIR"/diff || echo "refused: $?"
    """, needs=("patch",)),
    Scenario("cat | dd", """
        cat "$DATA"/big | dd of=a bs=100k iflag=fullblock status=none
        cat a a | dd of=b bs=7777 status=none
        cat < a >> b
        { cat "$DATA"/small; cat a; } > c
        cat c | { head -c 100 > head; cat > rest; }
        (yes || true) | head -c 9000000 > yes
    """),
    Scenario("bash: heredocs and redirections", """
        cat > a <<END
        $((6 * 7)) lines of a here-document
END
        cat >> a <<< 'and a string'
        { echo one; (echo two); echo three >&2; } > b 2>&1
        exec 5<> c; echo read and written >&5; exec 5>&-
        for i in {1..50}; do echo $i >> d; done
        set -C; (echo no > d) 2> /dev/null || echo refused; echo yes >| e
        : > f
        while read -r line; do echo "$line."; done < d > g
        mapfile -t read < d; echo "${#read[@]}"
        exec 6> h; echo first >&6; (echo second >&6) & wait; echo third >&6; exec 6>&-
    """),
    Scenario("appenders", """
        for who in a b c d; do
            (for i in {1..100}; do echo "$who $i" >> log; done) &
        done
        wait
        wc -l < log
        sort -o log log
    """),
]

EDITORS = [
    Scenario("vim", """
        cp "$DATA"/lines . && cp lines kept && cp lines copied && chmod 600 kept && ln -s kept link
        export TERM=dumb
        vim -es -u NONE -i NONE -c '%s/7/seven/' -c wq lines
        vim -es -u NONE -i NONE -c 'set backup backupcopy=no' -c 1,10d -c wq kept
        vim -es -u NONE -i NONE -c 'set backup backupcopy=yes' -c 1,10d -c wq copied
        vim -es -u NONE -i NONE -c 'set undofile' -c '$d' -c wq link
        vim -es -u NONE -i NONE -c 'normal ihello' -c 'w new' -c q!
        rm .*un~
        ls -A
    """, needs=("vim",)),
    Scenario("nano", """
        cp "$DATA"/small .
        export TERM=xterm
    """ + python(r"""
import os, pty, select
pid, terminal = pty.fork()
if pid == 0:
    os.execlp("nano", "nano", "--ignorercfiles", "--backup", "small")
# What is typed, each time it has drawn everything: a line, ^O and Return to save, ^X to leave.
for keys in (b"", b"typed\r", b"\x0f", b"\r", b"\x18"):
    os.write(terminal, keys)
    try:
        while select.select([terminal], [], [], 0.5)[0]:
            os.read(terminal, 4096)
    except OSError:
        break
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""), needs=("nano",)),
]

ARCHIVES = [
    Scenario("tar", """
        cp -a "$DATA"/tree "$DATA"/big .
        tar -cf archive.tar --sort=name tree big
        tar -cf "$TMPDIR"/archive.tar -C "$DATA" --sort=name tree big
        cmp archive.tar "$TMPDIR"/archive.tar && echo same
        mkdir out && tar -xpf archive.tar -C out
        tar -df archive.tar && echo no difference
        tar -rf archive.tar -C "$DATA" lines
        tar -uf archive.tar -C "$DATA" small lines
        tar --delete -f archive.tar big
        tar -czf packed.tgz --sort=name tree && tar -tzf packed.tgz
        mkdir sparse && tar -cSf - -C "$DATA" sparse | tar -xSf - -C sparse
    """, times="*/*"),
    Scenario("tar of many small files", """
        mkdir "$TMPDIR"/many
        for i in {1..500}; do echo $i > "$TMPDIR"/many/$i; done
        touch -d @1234567890.125 "$TMPDIR"/many/* "$TMPDIR"/many
        tar -cf - -C "$TMPDIR" many | tar -xf -
        tar -cf - --sort=name many | tar -xf - --one-top-level=again
        find many -type f | wc -l
    """, times="*/*"),
    Scenario("zip and unzip", """
        cp -a "$DATA"/tree "$DATA"/big .
        find tree big ! -type d | sort | zip -qX -y archive.zip -@
        zip -qX archive.zip -j "$DATA"/lines
        zip -q archive.zip -d big
        unzip -q archive.zip -d out
        unzip -tq archive.zip
        unzip -qo archive.zip -d out
    """, needs=("zip", "unzip"), times="out/*.*"),
    Scenario("gzip, bzip2, xz in place", """
        for tool in gzip bzip2 xz; do
            mkdir $tool && cp -p "$DATA"/{lines,five} $tool
            $tool -1 $tool/*
            cp -p $tool/lines.* $tool/kept.${tool: -2}
            $tool -d $tool/five.*
        done
        gzip -dc gzip/lines.gz | md5sum
    """, needs=("bzip2", "xz"), times="*/*"),
    Scenario("7z", """
        cp -a "$DATA"/{lines,five,big} .
        7z a -bd -mx=1 -mmt=1 archive.7z lines five big > /dev/null
        7z t archive.7z > /dev/null
        7z d archive.7z five > /dev/null
        7z x -oout archive.7z > /dev/null
    """, needs=("7z",), times="out/*"),
    Scenario("python: zipfile, tarfile, shutil", python("""
import os, shutil, tarfile, zipfile
data = os.environ["DATA"]
with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    for name in ("small", "lines", "big"):
        archive.write(os.path.join(data, name), name)
with zipfile.ZipFile("a.zip", "a") as archive:
    archive.writestr(zipfile.ZipInfo("later"), "text" * 1000)
with zipfile.ZipFile("a.zip") as archive:
    print(archive.testzip(), archive.namelist())
    archive.extractall("out")
with tarfile.open("a.tar", "w") as archive:
    archive.add(os.path.join(data, "big"), "big")
shutil.copytree(os.path.join(data, "tree"), "tree", symlinks=True)
shutil.move("tree", "moved")
shutil.copy2(os.path.join(data, "five"), "five")
shutil.rmtree("moved/below")
"""), times="five"),
    Scenario("rsync -a", """
        rsync -ai "$DATA"/tree "$DATA"/big .
        rsync -ai "$DATA"/tree "$DATA"/big .
        echo new > tree/new && rm tree/script && chmod 600 tree/executable
        rsync -ai --delete "$DATA"/tree/ tree/
        rsync -aciS "$DATA"/sparse .
        rsync -a tree/ "$TMPDIR"/out && rsync -anic --delete "$DATA"/tree/ "$TMPDIR"/out
        rsync -a --no-whole-file --backup "$DATA"/five big
        rsync -a --delay-updates tree/ delayed/
        rsync -ai --remove-source-files delayed/below/ moved
        # What was taken from them has changed their time.
        find delayed -type d -exec touch -d @1700000000 {} +
    """, needs=("rsync",), times="*"),
    Scenario("rsync --inplace", """
        cp "$DATA"/big . && dd if="$DATA"/lines of=big bs=1k seek=5000 conv=notrunc status=none
        rsync -a --inplace --no-whole-file "$DATA"/big .
        cp "$DATA"/big longer && cat "$DATA"/lines >> longer
        rsync -a --inplace "$DATA"/big longer
        rsync -a --inplace "$DATA"/five new
        rsync -a --inplace --no-whole-file "$DATA"/lines five
    """, needs=("rsync",), times="*"),
    Scenario("rsync --append", """
        head -c 6000000 "$DATA"/big > big && head -c 10 "$DATA"/lines > lines
        rsync -a --append "$DATA"/big "$DATA"/lines .
        head -c 7000000 "$DATA"/big > verified
        rsync -a --append-verify "$DATA"/big verified
    """, needs=("rsync",), times="*"),
]

LOOKING = [
    Scenario("find -newer, -size", """
        cp -a "$DATA"/tree "$DATA"/{empty,small,lines,big} .
        touch -d @1800000000 small
        find . -newer lines | sort
        find . -size +4M -o -size -2k -type f | sort
        find . -newermt '2026-01-01' ! -type d | sort
        find . -perm -111 -type f -o -type l -o -empty | sort
        find tree ! -type d -printf '%p %s %m %y %l %T@\\n' | sort
        find . -name '*.txt' -delete -print | sort
    """, times="[!t]*"),
    Scenario("du --apparent-size", """
        cp -r "$DATA"/tree "$DATA"/{big,sparse} .
        find . -type f -print0 | sort -z | du -b --files0-from=-
        du -s . > /dev/null && echo du goes through
    """),
    Scenario("df", """
        echo something > file
        test "$(df --output=avail . | tail -1)" -gt 1000000 && echo room
        test "$(df --output=iavail . | tail -1)" -gt 1000 && echo inodes
        stat -f -c 'names up to %l' .
    """),
    Scenario("stat, ls, file, test", """
        cp -a "$DATA"/tree/. .
        find . ! -type d | sort | xargs -d '\\n' stat -c '%n %F %a %u %g %s %Y %y'
        stat -L -c '%n %F' link
        find . -mindepth 1 | sort | xargs -d '\\n' file -h
        ls -AF --full-time --time-style=+%s.%N --hide='*' below | wc -l
        find . -type f | sort | xargs -d '\\n' ls -ln --time-style=+%s.%N
        [ script -nt executable ] || [ script -ot executable ] || echo as old
        [ script -ef ./script ] && [ -x executable ] && [ ! -x script ] && [ -s script ] && echo so it is
    """, needs=("file",), times="*"),
    Scenario("md5sum and cmp", """
        cp "$DATA"/{small,lines,five,big,sparse} .
        md5sum * > "$TMPDIR"/sums && cat "$TMPDIR"/sums
        sha256sum --check --quiet <(cd "$DATA" && sha256sum small big) && md5sum -c "$TMPDIR"/sums
        for file in *; do cmp $file "$DATA"/$file; done
        tail -c 100 big | md5sum; tail -n 3 lines; head -n 2 lines; wc lines big
    """),
    Scenario("grep -r", """
        cp -r "$DATA"/tree "$DATA"/lines .
        grep -rn 'line 77' . | sort
        grep -rlZ script tree | sort -z | tr '\\0' '\\n'
        grep -c 9 lines; grep -r nowhere tree || echo "none: $?"
    """),
    Scenario("inotifywait", """
        watch() {
            # What the last one said is not to be taken for this one's.
            : > "$TMPDIR"/said
            inotifywait -t 20 "$@" --format '%e %f' . 2> "$TMPDIR"/said > "$TMPDIR"/heard &
            until grep -q established "$TMPDIR"/said; do sleep 0.02; done
        }
        watch -e close_write; echo text > file; wait $!; cat "$TMPDIR"/heard
        watch -e moved_to; mv file other; wait $!; cat "$TMPDIR"/heard
        watch -e delete; rm other; wait $!; cat "$TMPDIR"/heard
        watch -e attrib; touch -d @5 .; touch made; chmod 600 made; wait $!; cut -d' ' -f1 "$TMPDIR"/heard
    """, needs=("inotifywait",)),
]

PROJECTS = [
    Scenario("git", """
        git config --global user.name tools && git config --global user.email tools@localhost
        git config --global init.defaultBranch main && git config --global pack.threads 1
        export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
        git init -q project && cd project
        cp -r "$DATA"/tree "$DATA"/{lines,five} .
        for i in {1..200}; do echo "file $i" > file-$i; done
        git add . && git commit -qm first && git status --short
        sed -i 's/7/seven/' lines && git mv file-1 moved && git rm -q file-2
        git diff --stat && git commit -qam second
        git checkout -qb branch HEAD~ && echo other > other && git add other && git commit -qm other
        git checkout -q main && git merge -qm merged branch && git tag -a -m tag v1
        git stash list; git gc --quiet --prune=now && git fsck --full --strict && git status --short
        cd .. && git clone -q project clone && git clone -q --bare --no-local project bare.git
        git -C clone fsck --full && git -C clone log --oneline
        echo pushed >> clone/other && git -C clone commit -qam pushed && git -C clone push -q origin HEAD:new
        git -C project worktree add -q ../tree branch && git -C tree status --short
        git -C project reset -q --hard new && git -C project status --short
        # The index has inode numbers and times in it.
        find . -name index -path '*git*' -delete
        # Clones and work trees say where they come from.
        grep -rlZ "$PWD" . | xargs -0 sed -i "s,$PWD,here,g"
    """, needs=("git",), deviations={
        r"^clone/.git/objects/.*: mode 644, not 444": "hard links are refused with EPERM: git copies, which makes 644",
    }),
    Scenario("make and gcc", """
        printf 'int twice(int n) { return 2 * n; }\\n' > twice.c
        printf 'int twice(int);\\n' > twice.h
        printf '#include <stdio.h>\\n#include "twice.h"\\nint main(void) { printf("%%d\\\\n", twice(21)); }\\n' > main.c
        printf 'main: main.o libtwice.a\\n\\t$(CC) -o $@ main.o -L. -ltwice\\n%%.o: %%.c twice.h\\n\\t$(CC) -c $<\\nlibtwice.a: twice.o\\n\\tar rcD $@ $^\\n' > Makefile
        make && ./main && make
        sleep 0.05; touch twice.h; make -j2 --output-sync > /dev/null && make -q && echo made
        strip -o stripped main && ./stripped
    """, needs=("gcc", "make")),
    *(Scenario(f"sqlite3, journal_mode={mode}", f"""
        sqlite3 data.db 'PRAGMA journal_mode={mode}'
        sqlite3 data.db <<'END'
            CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT);
            CREATE INDEX i ON t (text);
            BEGIN;
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
            INSERT INTO t SELECT i, hex(i * 7919) || ' text of some length to fill pages' FROM n;
            COMMIT;
            BEGIN; DELETE FROM t; ROLLBACK;
            INSERT INTO t (text) VALUES ('by itself');
            DELETE FROM t WHERE id % 3 = 0;
            VACUUM;
            PRAGMA integrity_check;
END
        for i in 1 2 3 4 5; do sqlite3 -cmd '.timeout 30000' data.db "INSERT INTO t (text) VALUES ('one of five')" & done; wait
        sqlite3 data.db "SELECT count(*), sum(id) FROM t; PRAGMA integrity_check"
        sqlite3 data.db .dump | grep -v 'one of five' | md5sum
        sqlite3 data.db 'VACUUM INTO "copy.db"' && sqlite3 copy.db 'PRAGMA integrity_check'
        ls
    """, needs=("sqlite3",)) for mode in ("DELETE", "TRUNCATE", "WAL")),
    Scenario("logrotate", """
        mkdir logs && cp "$DATA"/lines logs/app.log && cp "$DATA"/big logs/copied.log
        cat > "$TMPDIR"/conf <<END
            $PWD/logs/app.log {
                rotate 2
                compress
                create 0640
            }
            $PWD/logs/copied.log {
                rotate 2
                copytruncate
            }
END
        chmod 644 "$TMPDIR"/conf
        for i in 1 2 3; do
            echo round $i >> logs/app.log && echo round $i >> logs/copied.log
            touch -d @1700000000 logs/app.log
            logrotate -f -s "$TMPDIR"/state "$TMPDIR"/conf
        done
        ls logs
    """, needs=("logrotate",)),
    Scenario("curl", """
        curl -sS -o big "$URL"/big
        curl -sSR -o kept "$URL"/lines
        head -c 7000000 "$DATA"/big > rest && curl -sS -C - -o rest "$URL"/big
        curl -sS -C - -o whole "$URL"/five
        curl -sS -r 100-199 "$URL"/big >> small
        curl -sS --create-dirs -o deep/#1 "$URL"/{small,empty}
        curl -sSf -o none "$URL"/none 2> /dev/null || echo "refused: $?"
        curl -sS -T big "file://$PWD/sent"
    """, needs=("curl",), times="kept"),
    Scenario("wget -c", """
        wget -q "$URL"/lines
        head -c 7000000 "$DATA"/big > big && wget -qc "$URL"/big && wget -qc "$URL"/big
        wget -qN "$URL"/five && wget -qN "$URL"/five
        wget -qc -O new "$URL"/big
        wget -q "$URL"/lines && ls
    """, needs=("wget",), times="[bfl]*"),
]

PROGRAMS = [
    Scenario("writers that seek back", python("""
import os, struct
block = bytes(range(256)) * 4096
def container(path, mode, blocks):
    # As HDF5 and the like: a superblock last, an index in the middle.
    with open(path, mode) as file:
        file.write(b"\\0" * 512)
        for number in range(blocks):
            file.write(block)
        end = file.tell()
        file.write(b"index" * 100)
        file.seek(0)
        file.write(struct.pack("<8sQ", b"HEAD", end))
        file.seek(blocks // 2 * len(block))
        file.write(b"changed")
        if "+" in mode:
            file.seek(0)
            print(file.read(16).hex())
        file.seek(0, os.SEEK_END)
        file.write(b"end")
for blocks in (1, 6, 13):
    container(f"written-{blocks}", "wb", blocks)
    container(f"updated-{blocks}", "w+b", blocks)
    container(f"updated-{blocks}", "r+b", blocks // 2)
# From the back to the front, and into a hole.
with open("backwards", "wb") as file:
    for number in reversed(range(9)):
        file.seek(number << 20)
        file.write(bytes([number]) * (1 << 20))
    file.seek(20 << 20)
    file.write(b"beyond")
""")),
    Scenario("python: wave", python("""
import wave
for seconds in (1, 120):
    with wave.open(f"{seconds}.wav", "wb") as file:
        file.setnchannels(2), file.setsampwidth(2), file.setframerate(44100)
        for second in range(seconds):
            file.writeframes(bytes([second % 7]) * 4 * 44100)
""")),
    Scenario("ffmpeg", """
        make() {
            ffmpeg -v error -nostdin -threads 1 -f lavfi -i testsrc=size=320x240:rate=10:duration=6 \\
                -f lavfi -i sine=duration=6 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact "$@"
        }
        make -c:v mpeg4 clip.mp4
        make -c:v mpeg4 -movflags +faststart fast.mp4
        make -c:v mpeg4 clip.mkv
        make -c:v rawvideo -s 480x360 raw.avi
        make -c:v rawvideo -s 480x360 -movflags +faststart raw.mov
        make -map 1 sound.wav; make -map 1 sound.flac
        for file in *; do ffprobe -v error -show_entries format=format_name,duration,size -of csv $file; done
    """, needs=("ffmpeg",)),
    Scenario("mmap", """
        cp "$DATA"/{small,lines,big} .
    """ + python("""
import hashlib, mmap
def mapped(path, mode="r+b", **options):
    file = open(path, mode)
    return file, mmap.mmap(file.fileno(), 0, **options)
file, map = mapped("big", "rb", access=mmap.ACCESS_READ)
print(hashlib.md5(map).hexdigest(), map.find(b"\\0\\0"))
for name, places in (("small", (0, 5)), ("lines", (0, 100_000)), ("big", (0, 6 << 20, (12 << 20) - 4))):
    file, map = mapped(name)
    for place in places:
        map[place:place + 5] = b"MAPPD"
    map.flush()
    # The descriptor may go before the map.
    file.close()
    map[10:14] = b"LATE"
    map.close()
with open("new", "w+b") as file:
    file.truncate(9 << 20)
    with mmap.mmap(file.fileno(), 0) as map:
        map[:4], map[8 << 20:(8 << 20) + 4] = b"HEAD", b"TAIL"
        map.flush()
    file.seek(8 << 20)
    print(file.read(4))
file, map = mapped("lines", access=mmap.ACCESS_COPY)
map[:4] = b"COPY"
print(open("lines", "rb").read(4))
""")),
    Scenario("open, unlink, use", python("""
import os, tempfile
block = os.urandom(1 << 20)
def use(file):
    for _ in range(12):
        file.write(block)
    file.seek(0)
    print(all(file.read(1 << 20) == block for _ in range(12)), os.fstat(file.fileno()).st_size, len(os.listdir(".")))
with open("named", "w+b") as file:
    os.unlink("named")
    use(file)
with open("named", "w+b") as file:
    file.write(b"written before")
    file.flush()
    os.unlink("named")
    with open("named", "wb") as other:
        other.write(b"another of the name")
    file.seek(0)
    print(file.read())
# Asks for O_TMPFILE, and does without it where there is none.
with tempfile.TemporaryFile(dir=".") as file:
    use(file)
with tempfile.NamedTemporaryFile(dir=".") as file:
    use(file)
fd, name = tempfile.mkstemp(dir=".")
os.write(fd, b"renamed into place")
os.fsync(fd)
os.rename(name, "placed")
os.write(fd, b", and written")
os.close(fd)
""")),
    Scenario("renaming while it is written", python("""
import errno, os
file = open("part", "wb")
file.write(bytes(100))
os.rename("part", "whole")
file.write(bytes(100))
file.close()
file = open("large.part", "wb")
file.write(bytes(range(256)) * (1 << 16))
try:
    os.rename("large.part", "large")
except OSError as error:
    print(errno.errorcode[error.errno])
file.close()
"""), deviations={
        r"^stdout.*EBUSY": "an upload cannot change its key: EBUSY until the file is closed",
        r"^large(\.part)?: (missing|only there)": "so it has its old name",
    }),
    Scenario("flock", """
        flock lock bash -c 'touch "$TMPDIR"/held; sleep 1; echo first ends' &
        until [ -e "$TMPDIR"/held ]; do sleep 0.02; done
        flock -n lock echo WRONG || echo "refused: $?"
        flock -w 20 lock echo second
        flock -s lock bash -c 'flock -s -n lock echo shared; flock -n lock echo WRONG || echo refused'
        wait
    """ + python("""
import fcntl, os
with open("ranges", "w+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
    if os.fork() == 0:
        with open("ranges", "r+b") as other:
            try:
                fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
                print("WRONG", flush=True)
            except OSError as error:
                print(error.strerror, flush=True)
            fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
            print("free beside it", flush=True)
        os._exit(0)
    os.wait()
"""), needs=("flock",)),
    Scenario("setfattr and getfattr", """
        cp "$DATA"/small a && cp "$DATA"/big b && mkdir folder
        setfattr -n user.colour -v blue a && setfattr -n user.binary -v 0x00ff0a b && setfattr -n user.of -v folder folder
        setfattr -n user.empty a && setfattr -n user.gone -v x a && setfattr -x user.gone a
        setfattr -x user.none a 2> /dev/null || echo "none: $?"
        setfattr -n user.colour -v red a
        getfattr -d -e hex a b folder | sort
        echo more >> a && getfattr --only-values -n user.colour a && echo
        cp --preserve=xattr a copy && cp -a b kept && mv b moved && sed -i 1d copy
        getfattr -d -m - --absolute-names kept moved
        getfattr -n trusted.none a 2> /dev/null || echo "none: $?"
    """, needs=("getfattr",)),
    Scenario("mkfifo, mknod, sockets", """
        mkfifo fifo 2> /dev/null || echo "refused: $?"
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")' 2> /dev/null || echo "refused: $?"
        rm -f fifo socket
    """, deviations={r"^stdout.*refused: 1": "they have no object to be: EPERM"}),
]

SCENARIOS = [*COPYING, *CHANGING, *EDITORS, *ARCHIVES, *LOOKING, *PROJECTS, *PROGRAMS]


# --- What the scenarios work with ----------------------------------------------------------------


def make_inputs(folder):
    """Files of several sizes and a tree with one of everything, all with times of their own."""
    noise = random.Random(1)

    def write(name, data, mode=0o644):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
        return path

    write("empty", b"")
    write("small", b"a few words\n" * 10)
    write("lines", b"".join(b"line %d of the text\n" % number for number in range(30_000)))
    # One part, and three parts.
    write("five", noise.randbytes(5 * MIB))
    write("big", noise.randbytes(12 * MIB + 3))
    with open(os.path.join(folder, "sparse"), "wb") as file:
        for place in (2, 9):
            file.seek(place * MIB)
            file.write(noise.randbytes(MIB))
        file.truncate(16 * MIB + 1)
    owned = write("tree/script", b"#!/bin/sh\necho script\n", 0o640)
    write("tree/executable", b"\x7fELF" + noise.randbytes(1000), 0o755)
    write("tree/read only.txt", b"line 77\n", 0o444)
    write("tree/with ümläuts", b"umlauts\n", 0o600)
    write("tree/below/it/large", noise.randbytes(6 * MIB))
    for number in range(40):
        write(f"tree/below/{number}.txt", b"%d\n" % number * number)
    os.makedirs(os.path.join(folder, "tree/hollow"), 0o700)
    os.chmod(os.path.join(folder, "tree/below/it"), 0o2775)
    for link, target in (("link", "below/1.txt"), ("dangling", "/nowhere/at all"), ("below/up", "../below")):
        os.symlink(target, os.path.join(folder, "tree", link))
    if os.geteuid() == 0:
        os.chown(owned, 12, 34)
        os.chown(os.path.join(folder, "tree/link"), 56, 78, follow_symlinks=False)
    # What is below a directory first: it changes the directory's own time.
    for number, path in enumerate(sorted(paths_below(folder), reverse=True)):
        time = THEN + number * 1_000_000_007
        os.utime(os.path.join(folder, path), ns=(time, time), follow_symlinks=False)


def paths_below(root):
    """Relative to it. A directory that cannot be listed is no empty one."""

    def fail(error):
        raise error

    for folder, folders, files in os.walk(root, onerror=fail):
        for name in folders + files:
            yield os.path.relpath(os.path.join(folder, name), root)


class Inputs(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and from the byte on that is asked for."""

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = self.translate_path(self.path)
        if not wanted or not os.path.isfile(path):
            return super().do_GET()
        with open(path, "rb") as file:
            whole = file.read()
        first = int(wanted[1])
        data = whole[first : int(wanted[2]) + 1 if wanted[2] else None]
        if not data:
            return self.send_error(http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        self.send_response(http.HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", self.date_time_string(int(os.path.getmtime(path))))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class InputServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A tool that is killed does not take the rest of what it asked for."""


@contextlib.contextmanager
def serving(folder):
    handler = functools.partial(Inputs, directory=folder)
    with InputServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# --- Comparing -----------------------------------------------------------------------------------


KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


def look_at(path, timed):
    """Everything that is to be the same of it. Not st_blocks: what a bucket takes is nobody's to know."""
    status = os.lstat(path)
    kind = KINDS.get(stat.S_IFMT(status.st_mode), "special file")
    seen = {"kind": kind, "mode": f"{stat.S_IMODE(status.st_mode):o}", "owner": f"{status.st_uid}:{status.st_gid}"}
    if timed:
        seen["time"] = status.st_mtime_ns
    if kind == "link":
        seen["target"] = os.readlink(path)
        return seen
    if kind == "file":
        seen["size"] = status.st_size
        with open(path, "rb") as file:
            seen["bytes"] = hashlib.file_digest(file, "md5").hexdigest()
    names = [name for name in os.listxattr(path) if name.startswith("user.")]
    seen["attributes"] = {name: os.getxattr(path, name) for name in sorted(names)}
    return seen


def look_below(root, times):
    return {path: look_at(os.path.join(root, path), fnmatch.fnmatch(path, times)) for path in paths_below(root)}


def differences(local, mounted):
    for path in sorted(local.keys() | mounted.keys()):
        if path not in mounted:
            yield f"{path}: missing"
        elif path not in local:
            yield f"{path}: only there"
        else:
            for what, expected in local[path].items():
                found = mounted[path].get(what)
                if found != expected:
                    yield f"{path}: {what} {found}, not {expected}"


@dataclasses.dataclass
class Outcome:
    """What a script told, and how it ended."""

    status: object
    stdout: list
    stderr: str


def told_differently(local, mounted):
    if mounted.status != local.status:
        yield f"status: {mounted.status}, not {local.status}: {last_line(mounted.stderr)}"
    if mounted.stdout != local.stdout:
        marked = [line for line in difflib.ndiff(local.stdout, mounted.stdout) if line[0] in "+-"]
        yield f"stdout: {'; '.join(marked[:6])}"


def last_line(text):
    return (text.strip().splitlines() or ["it said nothing"])[-1]


# --- Running -------------------------------------------------------------------------------------


def slug(name):
    """As the name of a directory, or of an object."""
    return re.sub("[^a-z0-9]+", "-", name.lower())


@dataclasses.dataclass
class Running:
    script: subprocess.Popen
    folder: str


class Runner:
    """Runs scenarios on whichever disk, one at a time."""

    def __init__(self, place, url):
        self.place, self.url, self.data = place, url, place.file("data")
        self.told = [place.file("stdout"), place.file("stderr")]

    def begin(self, scenario, root):
        """In a directory of its own below that root, which is left for the comparison."""
        folder = os.path.join(root, slug(scenario.name))
        os.mkdir(folder)
        scratch = self.place.folder("scratch")
        environment = os.environ | {
            "DATA": self.data, "URL": self.url, "TMPDIR": scratch, "HOME": scratch, "TZ": "UTC",
        }  # fmt: skip
        command = ["bash", "-euo", "pipefail", "-c", f"cd '{folder}'\n{scenario.script}"]
        with open(self.told[0], "wb") as stdout, open(self.told[1], "wb") as stderr:
            script = self.place.start(command, env=environment, umask=0o022, stdout=stdout, stderr=stderr)
        return Running(script, folder)

    def end(self, running, patience=PATIENCE):
        """When it has ended by itself, or when it has had that many seconds."""
        if rig.wait_until(lambda: running.script.poll() is not None, patience):
            status = running.script.returncode
        else:
            os.killpg(running.script.pid, signal.SIGKILL)
            status = f"not over after {patience} s"
        shutil.rmtree(self.place.file("scratch"))
        stdout, stderr = (open(path, errors="replace").read() for path in self.told)
        return Outcome(status, stdout.splitlines(), stderr)

    def run(self, scenario, root):
        running = self.begin(scenario, root)
        return running.folder, self.end(running)

    def run_locally(self, scenario, root):
        folder, expected = self.run(scenario, root)
        if expected.status != 0:
            raise RuntimeError(f"it fails on the local disk ({expected.status}): {last_line(expected.stderr)}")
        return look_below(folder, scenario.times), expected


def undeclared(scenario, found):
    """What of that no deviation accounts for, and the reasons of those that account for the rest."""
    reasons = []
    for pattern, reason in scenario.deviations.items():
        declared = [text for text in found if re.search(pattern, text)]
        if not declared:
            found = [*found, f"no longer so: {reason}"]
        elif reason not in reasons:
            reasons.append(reason)
        found = [text for text in found if text not in declared]
    return found, reasons


def absent(scenario):
    """Why it has to be left out, if it has."""
    programs = [program for program in scenario.needs if not shutil.which(program)]
    return f"left out: no {', '.join(programs)} here" if programs else None


def open_uploads(wholefs, store):
    command = [wholefs, "uploads", "--json", *store]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return json.loads(answer.stdout)


class Matrix(Runner):
    def __init__(self, place, wholefs, url):
        super().__init__(place, url)
        self.wholefs = wholefs
        self.local, self.point = place.folder("local"), place.folder("mnt")
        # On disk: all the scenarios' files together are much for a small machine's memory.
        self.endpoint = place.serve(wholefs, "--bucket", BUCKET, "--dir", place.folder("bucket"))
        self.store = [f"s3://{BUCKET}", "--endpoint-url", self.endpoint, "--state-dir", place.file("state")]
        self.mount()

    def mount(self):
        options = ["--foreground", "--xattrs", "--part-size", PART, *self.store, self.point]
        self.process = self.place.mount([self.wholefs, "mount", *options], self.point)

    def remount(self):
        """Nothing of what is seen then comes from a cache. What goes wrong is yielded."""
        command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        unmounted = subprocess.run([*command, self.point], capture_output=True, text=True, timeout=60)
        if unmounted.returncode != 0:
            yield f"umount: {last_line(unmounted.stderr)}"
            rig.detach(self.point)
        if not rig.wait_until(lambda: self.process.poll() is not None, 60):
            yield "the mount did not end"
        elif self.process.returncode != 0:
            yield f"the mount ended with {self.process.returncode}"
        self.mount()

    def found(self, scenario):
        """Everything that was not the same, in words."""
        local, expected = self.run_locally(scenario, self.local)
        folder, outcome = self.run(scenario, self.point)
        found = list(told_differently(expected, outcome))
        found += differences(local, look_below(folder, scenario.times))
        found += [f"upload left open: {upload}" for upload in open_uploads(self.wholefs, self.store)]
        again = [*self.remount(), *differences(local, look_below(folder, scenario.times))]
        # What was wrong before is not told twice.
        return found + [f"{text} (after the remount)" for text in again if text not in found]

    def judge(self, scenario):
        if absent(scenario):
            return Row(scenario.name, None, [absent(scenario)])
        try:
            found, reasons = undeclared(scenario, self.found(scenario))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            return Row(scenario.name, False, [f"could not be judged: {error}"])
        return Row(scenario.name, not found, found or reasons)


HEAD = "| scenario | result | remark |\n| --- | --- | --- |"


@dataclasses.dataclass
class Row:
    name: str
    # None: it was left out.
    good: object
    remarks: list

    def __str__(self):
        return in_a_row(self.name, *verdict(self.good, self.remarks))


def verdict(good, remarks):
    sign = {True: "✓", False: "✗", None: "–"}[good]
    # A scenario that goes wrong may go wrong in hundreds of files.
    shown = remarks[:5] + [f"and {len(remarks) - 5} more"] * (len(remarks) > 5)
    return sign, "; ".join(shown)


def in_a_row(*cells):
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wholefs")
    parser.add_argument("--only", action="append")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--markdown")
    parser.add_argument("--keep-logs")
    return parser


def chosen(scenarios, only):
    unknown = set(only or []) - {scenario.name for scenario in scenarios}
    if unknown:
        sys.exit(f"scripts/tools: no scenario is called {', '.join(sorted(unknown))}; see --list")
    return [scenario for scenario in scenarios if not only or scenario.name in only]


def tell_names(scenarios):
    print("\n".join(scenario.name for scenario in scenarios))


def tell_rows(head, judge, scenarios):
    """As each is judged."""
    print(head, flush=True)
    for scenario in scenarios:
        row = judge(scenario)
        print(row, flush=True)
        yield row


def tell_omissions(rows):
    for row in rows:
        if row.good is None:
            print(f"scripts/tools: {row.name}: {row.remarks[0]}", file=sys.stderr)


def write_table(path, head, rows):
    if path:
        with open(path, "w") as file:
            file.writelines(f"{line}\n" for line in [head, *rows])


def keep_logs(place, folder):
    if folder:
        os.makedirs(folder, exist_ok=True)
        for log in glob.glob(place.file("*.log")):
            shutil.copy(log, folder)


def main():
    options = arguments().parse_args()
    if options.list:
        return tell_names(SCENARIOS)
    scenarios = chosen(SCENARIOS, options.only)
    rig.prepare()
    # Not in /tmp, which may be of memory: a local disk is to be compared with.
    with Place("tools", below="/var/tmp") as place, serving(place.folder("data")) as url:
        make_inputs(place.file("data"))
        try:
            rows = list(tell_rows(HEAD, Matrix(place, options.wholefs, url).judge, scenarios))
        except rig.Ended:
            sys.exit(130)
        finally:
            keep_logs(place, options.keep_logs)
    write_table(options.markdown, HEAD, rows)
    tell_omissions(rows)
    if any(row.good is False for row in rows):
        sys.exit("scripts/tools: tools find differences that are not declared")


if __name__ == "__main__":
    main()
