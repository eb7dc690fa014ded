package raftmq.driver;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/**
 * Sends at a fixed rate, whether the sends succeed or not, and logs the outcome of each.
 *
 * <p>The producer has the client's default retries and time-outs: how long a failure takes and
 * what is retried is part of what the harness measures.
 */
final class Produce {
    private static final int DEFAULT_CONCURRENCY = 1024;
    private static final long FIRST_SUCCESS_SECONDS = 60;
    /** More than three attempts of 3 s each. */
    private static final long OUTSTANDING_SECONDS = 30;

    private final PrintStream out;
    private final Clients clients;
    private final String topic;
    private final double rate;
    private final double seconds;
    private final Path logFile;
    private final Semaphore slots;
    private final long pid = ProcessHandle.current().pid();
    private final StopRequest stop = new StopRequest();
    /** When each send that has no outcome yet was started, by sequence number. */
    private final Map<Long, Moment> inFlight = new ConcurrentHashMap<>();
    private final ProduceSummary summary = new ProduceSummary();
    private EventLog log;
    private Producer producer;

    Produce(Flags flags, PrintStream out) throws UsageException {
        this.out = out;
        clients = new Clients(flags);
        topic = flags.required("topic");
        rate = flags.requiredNumber("rate");
        seconds = flags.requiredNumber("seconds");
        logFile = Path.of(flags.required("log"));
        slots = new Semaphore(flags.integer("concurrency", DEFAULT_CONCURRENCY));
    }

    int run() throws Exception {
        producer = clients.producer(topic);
        log = new EventLog(logFile);
        long next = sendUntilOneSucceeds();
        out.println("READY");
        sendAtRate(next);
        awaitOutstanding();
        out.println(summary.json());
        Closing closing = new Closing();
        closing.start(producer);
        closing.await();
        log.close();
        return 0;
    }

    /** Returns the next sequence number. */
    private long sendUntilOneSucceeds() throws InterruptedException, IOException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(FIRST_SUCCESS_SECONDS);
        long sequence = 0;
        while (!stop.isRequested()) {
            slots.acquire();
            if (send(sequence++).join()) {
                break;
            }
            if (System.nanoTime() > deadline) {
                throw new IOException("no send succeeded in " + FIRST_SUCCESS_SECONDS + " s");
            }
            stop.await(TimeUnit.SECONDS.toNanos(1));
        }
        return sequence;
    }

    /** A send that is late (all slots were taken) goes out as soon as it can. */
    private void sendAtRate(long firstSequence) throws InterruptedException {
        long start = System.nanoTime();
        long end = start + (long) (seconds * 1e9);
        for (long i = 0; ; i++) {
            long due = start + (long) (i * 1e9 / rate);
            if (due >= end || stop.await(due - System.nanoTime())) {
                return;
            }
            while (!slots.tryAcquire(100, TimeUnit.MILLISECONDS)) {
                if (stop.isRequested() || System.nanoTime() >= end) {
                    return;
                }
            }
            send(firstSequence + i);
        }
    }

    /** Starts a send; the result tells whether it succeeded. */
    private CompletableFuture<Boolean> send(long sequence) {
        inFlight.put(sequence, Moment.now());
        return producer.sendAsync(clients.message(topic, value(sequence)))
            .handle((receipt, error) -> {
                slots.release();
                finished(sequence, receipt, error);
                return error == null;
            });
    }

    private String value(long sequence) {
        return "P" + pid + "-" + sequence;
    }

    private void finished(long sequence, SendReceipt receipt, Throwable error) {
        // Whoever takes the entry out writes its line: there is just one for each send.
        Moment start = inFlight.remove(sequence);
        if (start == null) {
            return;
        }
        Moment end = Moment.now();
        boolean ok = error == null;
        String outcome = ok ? receipt.getMessageId().toString() : Failures.describe(error);
        log.append(Json.object("t_ms", start.wallMs(), "end_ms", end.wallMs(),
            "begin_ns", start.monotonicNs(), "end_ns", end.monotonicNs(),
            "v", value(sequence), "ok", ok, ok ? "id" : "err", outcome));
        summary.add(ok, end.wallMs());
    }

    private void awaitOutstanding() throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(OUTSTANDING_SECONDS);
        while (!inFlight.isEmpty() && System.nanoTime() < deadline) {
            TimeUnit.MILLISECONDS.sleep(10);
        }
        Exception unknown = new TimeoutException("outcome unknown at exit");
        for (Long sequence : inFlight.keySet()) {
            finished(sequence, null, unknown);
        }
    }
}
