package raftmq.driver;

import java.io.BufferedReader;
import java.io.Closeable;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;

/**
 * A lite push consumer in a process of its own, to be killed: its listener prints the body of each
 * message and never comes back.
 */
final class LiteHolder {
    private final Flags flags;
    private final PrintStream out;

    LiteHolder(Flags flags, PrintStream out) {
        this.flags = flags;
        this.out = out;
    }

    /** Runs until it is killed, or nobody is left to kill it. */
    int run() throws Exception {
        StopRequest stop = new StopRequest();
        stop.orWhenStdinCloses();
        LitePushConsumer consumer = new Clients(flags).litePushConsumer(flags.required("group"),
            flags.required("topic"), message -> {
                out.println(Clients.text(message));
                new CompletableFuture<Void>().join();
                return ConsumeResult.SUCCESS;
            });
        consumer.subscribeLite(flags.required("lite"));
        stop.await();
        return 0;
    }

    /** Starts one; its end is that of the returned object. */
    static Remote start(Fixture fixture, String topic, String group, String liteTopic)
        throws IOException {
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        List<String> command = new ArrayList<>(List.of(java, "-Xmx128m", "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"),
            Main.class.getName(), "lite-hold", "--endpoint", fixture.name("endpoint"),
            "--topic", topic, "--group", group, "--lite", liteTopic));
        if (fixture.name("tls") != null) {
            command.addAll(List.of("--tls", fixture.name("tls")));
        }
        return new Remote(new ProcessBuilder(command)
            .redirectError(ProcessBuilder.Redirect.INHERIT).start());
    }

    /** The process, from outside. */
    static final class Remote implements Closeable {
        private final Process process;
        private final BufferedReader bodies;

        Remote(Process process) {
            this.process = process;
            bodies = process.inputReader(StandardCharsets.UTF_8);
        }

        /** Waits for the next message in its listener. */
        String nextBody(Duration limit) throws Exception {
            return CompletableFuture.supplyAsync(() -> {
                try {
                    return bodies.readLine();
                } catch (IOException e) {
                    return "nothing: " + e;
                }
            }, task -> new Thread(task, "holder").start())
                .get(limit.toMillis(), TimeUnit.MILLISECONDS);
        }

        /** Kills it: the client does not get to say goodbye. */
        @Override
        public void close() {
            process.destroyForcibly();
        }
    }
}
