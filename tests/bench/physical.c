/* The calls of one claim and one commit, and nothing else: the physical limit.

   physical PROJECT PROCESSES

   Goes through PROJECT/tasks/ *.json as farm's workers would, each process through
   a stripe of its own, and leaves the same files behind. Prints how many tasks were
   done and the seconds from the first start to the last end; processes and the list
   of names are ready before that. */

#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLAIMED = 330, RESULT = 480, LONGEST = 255 }; /* bytes, as farm writes them */

static int tasks, locks, tmp; /* descriptors of the three folders */
static char filler[RESULT];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int folder(const char *project, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", project, name);
    mkdir(path, 0700);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        err(1, "%s", path);
    return fd;
}

static void must(int succeeded, const char *what)
{
    if (!succeeded)
        err(1, "%s", what);
}

static int is_ours(int fd, const char *lock, off_t size)
{
    struct stat here, there;
    return fstat(fd, &here) == 0 && fstatat(locks, lock, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           here.st_ino == there.st_ino && here.st_dev == there.st_dev && there.st_size == size;
}

static int claim(const char *name, const char *lock, const char *result)
{
    char raw[1 << 16];
    int flags = O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd = openat(locks, lock, flags, 0600);
    must(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0, lock);
    must(is_ours(fd, lock, 0), lock);
    must(faccessat(tasks, result, F_OK, AT_SYMLINK_NOFOLLOW) != 0, result);
    int task = openat(tasks, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    must(task >= 0 && read(task, raw, sizeof raw) > 0, name);
    close(task);
    must(write(fd, filler, CLAIMED) == CLAIMED, lock);
    return fd;
}

static void commit(int fd, const char *aside, const char *lock, const char *result)
{
    must(flock(fd, LOCK_EX | LOCK_NB) == 0 && is_ours(fd, lock, CLAIMED), lock);
    int out = openat(tmp, aside, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    must(out >= 0 && write(out, filler, RESULT) == RESULT, aside);
    close(out);
    must(linkat(tmp, aside, tasks, result, 0) == 0, result);
    unlinkat(tmp, aside, 0);
    unlinkat(locks, lock, 0);
    flock(fd, LOCK_UN);
    close(fd);
}

static void work(char **names, size_t count, size_t first, size_t step)
{
    char aside[32], lock[LONGEST + 16], result[LONGEST + 16];
    snprintf(aside, sizeof aside, "physical-%zu", first);
    for (size_t i = first; i < count; i += step) {
        int length = (int)strlen(names[i]) - (int)strlen(".json");
        snprintf(lock, sizeof lock, "task-%.*s.lock", length, names[i]);
        snprintf(result, sizeof result, "%.*s.result.json", length, names[i]);
        commit(claim(names[i], lock, result), aside, lock, result);
    }
}

static int is_task(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: physical PROJECT PROCESSES");
    char path[4096], **names;
    size_t step = strtoul(argv[2], NULL, 10);
    tasks = folder(argv[1], "tasks");
    folder(argv[1], ".farm");
    locks = folder(argv[1], ".farm/locks");
    tmp = folder(argv[1], ".farm/tmp");
    memset(filler, 'x', sizeof filler);
    snprintf(path, sizeof path, "%s/tasks", argv[1]);
    struct dirent **found;
    int count = scandir(path, &found, is_task, NULL);
    names = calloc((size_t)count + 1, sizeof *names);
    must(count >= 0 && names != NULL, path);
    for (int i = 0; i < count; i++)
        names[i] = found[i]->d_name;

    /* [0] counts who is ready; then each process's start and end */
    double *times = mmap(NULL, (2 * step + 1) * sizeof *times, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(times != MAP_FAILED, "mmap");
    for (size_t k = 0; k < step; k++) {
        if (fork() == 0) {
            times[1 + 2 * k] = now();
            work(names, (size_t)count, k, step);
            times[2 + 2 * k] = now();
            _exit(0);
        }
    }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status;
    double first = times[1], last = times[2];
    for (size_t k = 1; k < step; k++) {
        first = times[1 + 2 * k] < first ? times[1 + 2 * k] : first;
        last = times[2 + 2 * k] > last ? times[2 + 2 * k] : last;
    }
    printf("%d %.6f\n", count, last - first);
    return failed != 0;
}
