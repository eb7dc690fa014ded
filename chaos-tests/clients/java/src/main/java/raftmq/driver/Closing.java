package raftmq.driver;

import java.io.Closeable;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Closes clients in the background and bounds the wait for it: the client's close waits for ever
 * for a server that does not end the telemetry stream.
 */
final class Closing {
    /** A push consumer's close waits for its long poll: 20 s and the 3 s request time-out. */
    private static final long LIMIT_SECONDS = 30;

    private final Queue<CompletableFuture<Void>> started = new ConcurrentLinkedQueue<>();

    void start(Closeable client) {
        started.add(CompletableFuture.runAsync(() -> {
            try {
                client.close();
            } catch (Exception e) {
                System.err.println("could not close a client: " + e);
            }
        }, task -> new Thread(task, "close").start()));
    }

    void await() throws InterruptedException {
        try {
            CompletableFuture.allOf(started.toArray(new CompletableFuture<?>[0]))
                .get(LIMIT_SECONDS, TimeUnit.SECONDS);
        } catch (TimeoutException | ExecutionException e) {
            System.err.println("not all clients closed within " + LIMIT_SECONDS + " s: " + e);
        }
    }
}
