/*
 * Makes disks and clocks fail for one process, from outside, while it runs (LD_PRELOAD).
 *
 * RAFTMQ_SHIM_CONTROL names a file that is mapped shared: the harness writes settings into it, this
 * library counts in it what it did. Layout and meaning stand in src/disk/shim.rs; both sides change
 * together, and MAGIC with them.
 *
 * Invariants: without the variable nothing is changed; with it, a file that can not be mapped ends
 * the process, because a fault that is silently absent proves nothing. A call that is not made to
 * fail leaves errno as the real call sets it. Faked monotonic time never goes back.
 *
 * Not here: calls that bypass the C library (static binaries, io_uring, rdtsc), stdio (fwrite),
 * mmap, and copy_file_range.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x324d494853514d52ull /* "RMQSHIM2" */
#define SECOND_NS 1000000000ll
#define MILLION 1000000ll
#define PATH_BYTES 1024
#define TORN_READS_MAX 1000
#define SLICE_MS 5

struct trigger { uint64_t base, from, per_million; };

struct clocks { int64_t realtime_offset_ns, monotonic_offset_ns, drift_ppm, drift_monotonic, anchor_ns; };

struct disk {
    uint64_t sync_delay_ms, sync_hang, write_errno, seed;
    struct trigger sync, write, read;
    uint64_t path_length;
    char path[PATH_BYTES];
};

struct counters {
    uint64_t attached, sync_calls, syncs_delayed, syncs_hung, syncs_failed, write_calls,
        writes_failed, read_calls, reads_failed, clock_reads, waits_scaled;
};

struct control {
    uint64_t magic, sequence; /* sequence is odd while settings are being written */
    struct clocks clocks;
    struct disk disk;
    _Alignas(4096) struct counters counters;
};

static struct control *control;

/* The function this library stands in front of. */
#define REAL(name) ({ \
    static void *known; \
    void *found = __atomic_load_n(&known, __ATOMIC_RELAXED); \
    if (!found) { \
        found = dlsym(RTLD_NEXT, #name); \
        __atomic_store_n(&known, found, __ATOMIC_RELAXED); \
    } \
    (__typeof__(&name))found; })

/* The same, where dlsym may find the ancestor of a function that glibc has twice. */
#define REAL_VERSION(name, version) ({ \
    static void *known; \
    void *found = __atomic_load_n(&known, __ATOMIC_RELAXED); \
    if (!found) { \
        found = dlvsym(RTLD_NEXT, #name, version); \
        found = found ? found : dlsym(RTLD_NEXT, #name); \
        __atomic_store_n(&known, found, __ATOMIC_RELAXED); \
    } \
    (__typeof__(&name))found; })

static uint64_t count(uint64_t *counter) { return __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED); }
static uint64_t peek(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("RAFTMQ_SHIM_CONTROL");
    if (!path) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct control *mapped =
        mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || mapped == MAP_FAILED || mapped->magic != MAGIC) {
        fprintf(stderr, "fault shim: can not use %s\n", path);
        _exit(97);
    }
    close(fd);
    count(&mapped->counters.attached);
    control = mapped;
}

/* Copies settings while nobody changes them. Gives up on a writer that died halfway. */
static void settings(void *to, const void *from, size_t bytes) {
    for (int tries = 0; tries < TORN_READS_MAX; tries++) {
        uint64_t before = __atomic_load_n(&control->sequence, __ATOMIC_ACQUIRE);
        for (size_t word = 0; word < bytes / 8; word++)
            ((uint64_t *)to)[word] = peek((const uint64_t *)from + word);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (before % 2 == 0 && before == peek(&control->sequence)) return;
    }
}

static void pause_ms(uint64_t ms) {
    struct timespec time = {ms / 1000, ms % 1000 * MILLION};
    REAL(nanosleep)(&time, NULL);
}

/* ---- disks ---- */

/* Whether the open file lies at or below the path of the settings. Sockets and pipes never do. */
static bool below(int fd, const struct disk *disk) {
    char link[32], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    size_t prefix = disk->path_length;
    return length > 0 && path[0] == '/' && (size_t)length >= prefix && prefix <= PATH_BYTES
        && memcmp(path, disk->path, prefix) == 0
        && ((size_t)length == prefix || path[prefix] == '/');
}

/* Chance as a function of seed and call, so that a schedule can be repeated (xorshift, multiply). */
static uint64_t draw(uint64_t seed, uint64_t call) {
    uint64_t x = seed + call * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static bool is_set(const struct trigger *trigger) {
    return peek(&trigger->from) != 0 || peek(&trigger->per_million) != 0;
}

static bool fires(const struct trigger *trigger, uint64_t call, uint64_t seed) {
    uint64_t nth = call - trigger->base;
    return (trigger->from && nth >= trigger->from)
        || draw(seed, nth) % MILLION < trigger->per_million;
}

/* 0, or the error with which the sync has to fail. */
static int before_sync(int fd) {
    struct disk disk = {0};
    if (!control) return 0;
    int saved = errno;
    settings(&disk, &control->disk, sizeof disk);
    bool hit = below(fd, &disk);
    errno = saved;
    if (!hit) return 0;
    struct counters *counters = &control->counters;
    uint64_t call = count(&counters->sync_calls);
    if (disk.sync_delay_ms) count(&counters->syncs_delayed);
    /* In slices, so that a reset ends a long delay. */
    for (uint64_t ms = 0; ms < disk.sync_delay_ms && peek(&control->disk.sync_delay_ms); ms += SLICE_MS)
        pause_ms(disk.sync_delay_ms - ms < SLICE_MS ? disk.sync_delay_ms - ms : SLICE_MS);
    if (disk.sync_hang) count(&counters->syncs_hung);
    while (disk.sync_hang && peek(&control->disk.sync_hang)) pause_ms(SLICE_MS);
    errno = saved;
    if (!fires(&disk.sync, call, disk.seed)) return 0;
    count(&counters->syncs_failed);
    return EIO;
}

static int before_transfer(int fd, bool is_write) {
    struct disk disk = {0};
    if (!control) return 0;
    if (!is_set(is_write ? &control->disk.write : &control->disk.read)) return 0;
    int saved = errno;
    settings(&disk, &control->disk, sizeof disk);
    bool hit = below(fd, &disk);
    errno = saved;
    if (!hit) return 0;
    struct counters *counters = &control->counters;
    uint64_t call = count(is_write ? &counters->write_calls : &counters->read_calls);
    if (!fires(is_write ? &disk.write : &disk.read, call, disk.seed)) return 0;
    count(is_write ? &counters->writes_failed : &counters->reads_failed);
    return is_write ? (int)disk.write_errno : EIO;
}

#define FAIL_IF(error) do { int failed = (error); if (failed) { errno = failed; return -1; } } while (0)
#define SYNC(name, declared, passed) \
    int name declared { FAIL_IF(before_sync(fd)); return REAL(name) passed; }
#define TRANSFER(type, name, is_write, declared, passed) \
    type name declared { FAIL_IF(before_transfer(fd, is_write)); return REAL(name) passed; }

SYNC(fsync, (int fd), (fd))
SYNC(fdatasync, (int fd), (fd))
SYNC(sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags), (fd, at, n, flags))

TRANSFER(ssize_t, write, true, (int fd, const void *from, size_t n), (fd, from, n))
TRANSFER(ssize_t, pwrite, true, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
TRANSFER(ssize_t, pwrite64, true, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))
TRANSFER(ssize_t, writev, true, (int fd, const struct iovec *v, int n), (fd, v, n))
TRANSFER(ssize_t, pwritev, true, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))
TRANSFER(ssize_t, pwritev64, true, (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at))
TRANSFER(int, fallocate, true, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
TRANSFER(int, fallocate64, true, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))

TRANSFER(ssize_t, read, false, (int fd, void *to, size_t n), (fd, to, n))
TRANSFER(ssize_t, pread, false, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
TRANSFER(ssize_t, pread64, false, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
TRANSFER(ssize_t, readv, false, (int fd, const struct iovec *v, int n), (fd, v, n))
TRANSFER(ssize_t, preadv, false, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))
TRANSFER(ssize_t, preadv64, false, (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at))

/* ---- clocks ---- */

static int64_t as_ns(const struct timespec *time) { return time->tv_sec * SECOND_NS + time->tv_nsec; }

static struct timespec as_timespec(int64_t ns) {
    if (ns < 0) ns = 0;
    return (struct timespec){ns / SECOND_NS, ns % SECOND_NS};
}

static int64_t real_ns(clockid_t clock) {
    struct timespec time;
    REAL(clock_gettime)(clock, &time);
    return as_ns(&time);
}

/* Whether any clock is faked; then also how. */
static bool faked(struct clocks *clocks) {
    memset(clocks, 0, sizeof *clocks);
    if (!control) return false;
    settings(clocks, &control->clocks, sizeof *clocks);
    return clocks->realtime_offset_ns || clocks->monotonic_offset_ns || clocks->drift_ppm;
}

static bool is_realtime(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

static bool is_monotonic(clockid_t clock) {
    return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE
        || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME;
}

static int64_t drifted(const struct clocks *clocks, int64_t now_ns) {
    return (__int128)(now_ns - clocks->anchor_ns) * clocks->drift_ppm / MILLION;
}

/* What a faked clock shows; `*ns` is what the real one showed. */
static void fake(const struct clocks *clocks, clockid_t clock, int64_t *ns) {
    if (is_realtime(clock)) {
        *ns += clocks->realtime_offset_ns + drifted(clocks, real_ns(CLOCK_MONOTONIC));
    } else if (is_monotonic(clock)) {
        *ns += clocks->monotonic_offset_ns + (clocks->drift_monotonic ? drifted(clocks, *ns) : 0);
    } else {
        return;
    }
    count(&control->counters.clock_reads);
    if (clock != CLOCK_MONOTONIC) return;
    /* New settings take effect a moment after their anchor was read. */
    static int64_t latest_ns;
    int64_t latest = __atomic_load_n(&latest_ns, __ATOMIC_RELAXED);
    while (latest < *ns
           && !__atomic_compare_exchange_n(
               &latest_ns, &latest, *ns, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    if (*ns < latest) *ns = latest;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    struct clocks clocks;
    int result = REAL(clock_gettime)(clock, time);
    if (result == 0 && faked(&clocks)) {
        int64_t ns = as_ns(time);
        fake(&clocks, clock, &ns);
        *time = as_timespec(ns);
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    if (zone) memset(zone, 0, sizeof(struct timezone));
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

/* Waits: a clock that runs fast or slow also ends waits early or late. */

/* A span of faked monotonic time in real time, rounded up: no timer may fire early. */
static int64_t real_span(const struct clocks *clocks, int64_t span) {
    if (!clocks->drift_monotonic || !clocks->drift_ppm || span <= 0) return span;
    count(&control->counters.waits_scaled);
    int64_t rate = MILLION + clocks->drift_ppm;
    return ((__int128)span * MILLION + rate - 1) / rate;
}

static struct timespec real_relative(const struct clocks *clocks, const struct timespec *time) {
    return as_timespec(real_span(clocks, as_ns(time)));
}

/* The moment at which the real clock has to stand for the faked one to stand at `time`. */
static struct timespec real_deadline(
    const struct clocks *clocks, clockid_t clock, const struct timespec *time) {
    int64_t now_ns = real_ns(clock), faked_ns = now_ns;
    fake(clocks, clock, &faked_ns);
    return as_timespec(now_ns + real_span(clocks, as_ns(time) - faked_ns));
}

static int real_ms(int ms) {
    struct clocks clocks;
    if (ms <= 0 || !faked(&clocks)) return ms;
    return (real_span(&clocks, ms * MILLION) + MILLION - 1) / MILLION;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int ms) {
    return REAL(epoll_wait)(fd, events, n, real_ms(ms));
}

int epoll_pwait(int fd, struct epoll_event *events, int n, int ms, const sigset_t *mask) {
    return REAL(epoll_pwait)(fd, events, n, real_ms(ms), mask);
}

int poll(struct pollfd *fds, nfds_t n, int ms) { return REAL(poll)(fds, n, real_ms(ms)); }

int nanosleep(const struct timespec *time, struct timespec *rest) {
    struct clocks clocks;
    if (!faked(&clocks)) return REAL(nanosleep)(time, rest);
    struct timespec real = real_relative(&clocks, time);
    return REAL(nanosleep)(&real, rest);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *rest) {
    struct clocks clocks;
    if (!faked(&clocks)) return REAL(clock_nanosleep)(clock, flags, time, rest);
    struct timespec real = flags & TIMER_ABSTIME ? real_deadline(&clocks, clock, time)
                                                 : real_relative(&clocks, time);
    return REAL(clock_nanosleep)(clock, flags, &real, rest);
}

int pthread_cond_timedwait(
    pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, const struct timespec *restrict time) {
    struct clocks clocks;
    struct timespec real = *time;
    if (faked(&clocks)) real = real_deadline(&clocks, CLOCK_REALTIME, time);
    return REAL_VERSION(pthread_cond_timedwait, "GLIBC_2.3.2")(cond, mutex, &real);
}

int pthread_cond_clockwait(
    pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, clockid_t clock,
    const struct timespec *restrict time) {
    struct clocks clocks;
    struct timespec real = *time;
    if (faked(&clocks)) real = real_deadline(&clocks, clock, time);
    return REAL(pthread_cond_clockwait)(cond, mutex, clock, &real);
}

/* Rust's standard library waits with futexes, through syscall(). Six words cover every call. */
typedef long system_call(long, long, long, long, long, long, long);
system_call shim_syscall __asm__("syscall");

long shim_syscall(long number, long a, long b, long c, long d, long e, long f) {
    static system_call *real;
    if (!real) real = (system_call *)dlsym(RTLD_NEXT, "syscall");
    struct clocks clocks;
    struct timespec wait;
    int operation = b & FUTEX_CMD_MASK;
    if (number == SYS_futex && d != 0 && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET)
        && faked(&clocks)) {
        clockid_t clock = b & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        const struct timespec *time = (const struct timespec *)d;
        wait = operation == FUTEX_WAIT ? real_relative(&clocks, time)
                                       : real_deadline(&clocks, clock, time);
        d = (long)&wait;
    }
    return real(number, a, b, c, d, e, f);
}
