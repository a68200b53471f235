/* Loaded into a daemon by a test: whenever it has synced a journal, what is in the file then is kept
 * beside it as NAME.synced. That is what the disk would have after a power loss. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void keep(int fd) {
    char link[64], path[4096], synced[4200], unfinished[4200], block[65536];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    const char *name = strrchr(path, '/');
    if (!name || strncmp(name + 1, "journal", 7) != 0) return;
    snprintf(synced, sizeof synced, "%s.synced", path);
    snprintf(unfinished, sizeof unfinished, "%s.unfinished", path);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n;
    while ((n = read(from, block, sizeof block)) > 0)
        if (write(to, block, n) != n) _exit(99);
    close(from);
    close(to);
    rename(unfinished, synced);
}

int fsync(int fd) {
    int done = syscall(SYS_fsync, fd);
    if (done == 0) keep(fd);
    return done;
}

int fdatasync(int fd) {
    int done = syscall(SYS_fdatasync, fd);
    if (done == 0) keep(fd);
    return done;
}
