/*
 * Takes the entropy and the clock of the system away from one process (LD_PRELOAD).
 *
 * RAFTMQ_SIM_SEED seeds what getrandom() gives: the keys of hash maps, the seed of the runtime's own
 * choices, the numbers of rand. Clocks go on by a nanosecond with each look, so that nothing can
 * depend on how fast the machine is.
 *
 * Not here: calls that bypass the C library.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

static uint64_t state;
static int seeded;
static int64_t looks;

static uint64_t next(void) {
    if (!seeded) {
        const char *seed = getenv("RAFTMQ_SIM_SEED");
        state = seed ? strtoull(seed, 0, 10) : 0;
        seeded = 1;
    }
    state += 0x9e3779b97f4a7c15ull;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    (void)flags;
    unsigned char *bytes = buffer;
    for (size_t at = 0; at < length; at++) bytes[at] = (unsigned char)next();
    return (ssize_t)length;
}

int getentropy(void *buffer, size_t length) {
    getrandom(buffer, length, 0);
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    (void)clock;
    looks++;
    time->tv_sec = 1790000000 + looks / 1000000000;
    time->tv_nsec = looks % 1000000000;
    return 0;
}
