package raftmq.driver;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import sun.misc.Signal;

/** Set once when the harness wants this process to finish. */
final class StopRequest {
    private static final int FILE_TYPE = 0170000;
    private static final int PIPE = 0010000;
    private static final int SOCKET = 0140000;

    private final CountDownLatch requested = new CountDownLatch(1);

    /** Listens for SIGTERM; a shutdown hook would not do, it can not make the exit code 0. */
    StopRequest() {
        Signal.handle(new Signal("TERM"), signal -> requested.countDown());
    }

    /**
     * Stops when standard input ends too, if someone holds its other end: so a driver does not
     * outlive a harness that was killed. A null device or a terminal says nothing.
     */
    void orWhenStdinCloses() {
        if (!stdinHasAPeer()) {
            return;
        }
        Thread reader = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    // Only the end matters.
                }
            } catch (IOException e) {
                // As good as the end.
            }
            requested.countDown();
        }, "stdin");
        reader.setDaemon(true);
        reader.start();
    }

    boolean isRequested() {
        return requested.getCount() == 0;
    }

    void await() throws InterruptedException {
        requested.await();
    }

    /** Waits and returns whether the stop was requested by then. */
    boolean await(long nanos) throws InterruptedException {
        return requested.await(nanos, TimeUnit.NANOSECONDS);
    }

    private static boolean stdinHasAPeer() {
        try {
            int mode = (int) Files.getAttribute(Path.of("/dev/stdin"), "unix:mode");
            int type = mode & FILE_TYPE;
            return type == PIPE || type == SOCKET;
        } catch (IOException e) {
            return false;
        }
    }
}
