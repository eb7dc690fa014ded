package raftmq.driver;

/**
 * A point in time by two clocks.
 *
 * @param wallMs milliseconds since 1970
 * @param monotonicNs nanoseconds of the machine's monotonic clock, which the harness reads too:
 *     {@link System#nanoTime} promises that to nobody, but does so on Linux
 */
record Moment(long wallMs, long monotonicNs) {
    static Moment now() {
        return new Moment(System.currentTimeMillis(), System.nanoTime());
    }
}
