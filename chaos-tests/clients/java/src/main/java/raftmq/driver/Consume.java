package raftmq.driver;

import java.io.Closeable;
import java.io.PrintStream;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** Consumes and acks until told to stop, through whatever happens to the brokers. */
final class Consume {
    private static final int RECEIVERS = 4;
    /** Small, so that the last message of a batch is acked before it becomes visible again. */
    private static final int BATCH = 8;
    private static final Duration INVISIBLE = Duration.ofSeconds(30);
    private static final long ERROR_PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(200);

    private final PrintStream out;
    private final Clients clients;
    private final String topic;
    private final String group;
    private final boolean push;
    private final Path logFile;
    private final StopRequest stop = new StopRequest();
    private final AtomicLong received = new AtomicLong();
    private final AtomicLong errors = new AtomicLong();
    private EventLog log;

    Consume(Flags flags, PrintStream out) throws UsageException {
        this.out = out;
        clients = new Clients(flags);
        topic = flags.required("topic");
        group = flags.required("group");
        logFile = Path.of(flags.required("log"));
        push = switch (flags.required("mode")) {
            case "push" -> true;
            case "simple" -> false;
            default -> throw new UsageException("--mode is push or simple");
        };
        stop.orWhenStdinCloses();
    }

    int run() throws Exception {
        log = new EventLog(logFile);
        Closeable consumer = push ? startPush() : startSimple();
        out.println("READY");
        stop.await();
        Closing closing = new Closing();
        closing.start(consumer);
        closing.await();
        log.close();
        System.err.println(Json.object("received", received, "errors", errors));
        return 0;
    }

    private PushConsumer startPush() throws Exception {
        return clients.pushConsumer(group, topic, message -> {
            // The client acks by itself after the return, and repeats the ack until it succeeds.
            record(message, "acked", true, "end_ns", System.nanoTime());
            return ConsumeResult.SUCCESS;
        });
    }

    /** The result closes the consumer once its receivers have ended. */
    private Closeable startSimple() throws Exception {
        SimpleConsumer consumer = clients.simpleConsumer(group, topic);
        List<Thread> receivers = new ArrayList<>();
        for (int i = 0; i < RECEIVERS; i++) {
            Thread receiver = new Thread(() -> receiveUntilStopped(consumer), "receiver-" + i);
            receiver.start();
            receivers.add(receiver);
        }
        return () -> {
            for (Thread receiver : receivers) {
                joinUninterrupted(receiver);
            }
            consumer.close();
        };
    }

    private void receiveUntilStopped(SimpleConsumer consumer) {
        while (!stop.isRequested()) {
            long beginNs = System.nanoTime();
            try {
                List<MessageView> messages = consumer.receive(BATCH, INVISIBLE);
                long endNs = System.nanoTime();
                for (MessageView message : messages) {
                    ack(consumer, message, beginNs, endNs);
                }
            } catch (Exception e) {
                countError("receive", e);
            }
        }
    }

    private void ack(SimpleConsumer consumer, MessageView message, long beginNs, long endNs) {
        long ackBeginNs = System.nanoTime();
        Exception failure = null;
        try {
            consumer.ack(message);
        } catch (Exception e) {
            // The message comes again when its invisible duration is over.
            failure = e;
        }
        record(message, "acked", failure == null,
            "begin_ns", beginNs, "end_ns", endNs, "invisible_ms", INVISIBLE.toMillis(),
            "ack_begin_ns", ackBeginNs, "ack_end_ns", System.nanoTime(),
            "err", failure == null ? "" : Failures.describe(failure));
        if (failure != null) {
            countError("ack", failure);
        }
    }

    /** Appends a line with what became of the message: keys and values in turn. */
    private void record(MessageView message, Object... outcome) {
        received.incrementAndGet();
        List<Object> line = new ArrayList<>(List.of("t_ms", System.currentTimeMillis(),
            "v", Clients.text(message), "id", message.getMessageId(),
            "attempt", message.getDeliveryAttempt()));
        line.addAll(List.of(outcome));
        log.append(Json.object(line.toArray()));
    }

    private void countError(String operation, Exception error) {
        errors.incrementAndGet();
        System.err.println(operation + ": " + Failures.describe(error));
        try {
            // A broker that is away refuses at once: do not spin.
            stop.await(ERROR_PAUSE_NANOS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static void joinUninterrupted(Thread thread) {
        try {
            thread.join();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
