package raftmq.driver;

/** Counts the outcomes of sends and the longest time without a success. */
final class ProduceSummary {
    private long ok;
    private long failed;
    private long lastSuccessMs;
    private long maxGapMs;

    synchronized void add(boolean success, long endMs) {
        if (!success) {
            failed++;
            return;
        }
        if (ok > 0) {
            maxGapMs = Math.max(maxGapMs, endMs - lastSuccessMs);
        }
        ok++;
        lastSuccessMs = endMs;
    }

    synchronized String json() {
        return Json.object("sent", ok + failed, "ok", ok, "failed", failed, "max_gap_ms", maxGapMs);
    }
}
