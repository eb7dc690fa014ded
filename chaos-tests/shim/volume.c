/*
 * Does something to mounted file systems, to all of them at the same moment:
 *
 *     volume cut|flush-and-cut|freeze|thaw <mount point>...
 *
 * A cut is the shutdown ioctl; without the flush not even the journal is written. Prints one line
 * for each mount point: begin and end in nanoseconds of CLOCK_MONOTONIC, the path. Ends with 1 if any
 * of them refused, and with 2 before anything was done.
 *
 * Invariant: only file systems on loop devices are touched. A path at which nothing is mounted any
 * more belongs to the file system of the machine, which must survive.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define SHUTDOWN _IOR('X', 125, uint32_t)
#define LOOP_MAJOR 7
#define PATHS_MAX 64

struct action { const char *name; unsigned long request; uint32_t argument; };
struct target { const char *path; int fd, error; long long begin_ns, end_ns; };

static const struct action ACTIONS[] = {
    {"cut", SHUTDOWN, 2}, {"flush-and-cut", SHUTDOWN, 0}, {"freeze", FIFREEZE, 0}, {"thaw", FITHAW, 0},
};
static const struct action *action;
static pthread_barrier_t together;

static long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void *act(void *argument) {
    struct target *target = argument;
    uint32_t value = action->argument;
    pthread_barrier_wait(&together);
    target->begin_ns = now_ns();
    if (ioctl(target->fd, action->request, &value) != 0) target->error = errno;
    target->end_ns = now_ns();
    return NULL;
}

static int refuse(const char *path, const char *why) {
    fprintf(stderr, "%s: %s\n", path, why);
    return 2;
}

int main(int argc, char **argv) {
    struct target targets[PATHS_MAX] = {0};
    pthread_t threads[PATHS_MAX];
    struct stat stat;
    int n = argc - 2, result = 0;
    if (n < 1 || n > PATHS_MAX) return refuse("volume", "an action and 1 to 64 mount points");
    for (size_t i = 0; i < sizeof ACTIONS / sizeof *ACTIONS; i++)
        if (strcmp(argv[1], ACTIONS[i].name) == 0) action = &ACTIONS[i];
    if (!action) return refuse(argv[1], "not an action");
    pthread_barrier_init(&together, NULL, n);
    for (int i = 0; i < n; i++) {
        targets[i].path = argv[i + 2];
        targets[i].fd = open(targets[i].path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (targets[i].fd < 0 || fstat(targets[i].fd, &stat) != 0)
            return refuse(targets[i].path, strerror(errno));
        if (major(stat.st_dev) != LOOP_MAJOR)
            return refuse(targets[i].path, "not on a loop device, left alone");
    }
    for (int i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, act, &targets[i]) != 0)
            return refuse(targets[i].path, "no thread");
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        printf("%lld %lld %s\n", targets[i].begin_ns, targets[i].end_ns, targets[i].path);
        if (targets[i].error == 0) continue;
        refuse(targets[i].path, strerror(targets[i].error));
        result = 1;
    }
    return result;
}
