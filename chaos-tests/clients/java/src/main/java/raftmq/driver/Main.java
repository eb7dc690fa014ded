package raftmq.driver;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * Entry point: {@code interop}, {@code features}, {@code produce} or {@code consume}, each with
 * its flags; {@code lite-hold} is started by a check.
 */
public final class Main {
    private static final int EXIT_USAGE = 2;

    private Main() {
    }

    /** Runs the named command and exits with its code. */
    public static void main(String[] args) {
        // The harness reads standard output, so nothing else may print there.
        PrintStream protocol = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        keepClientLogsInAFile();
        System.exit(run(args, protocol));
    }

    private static int run(String[] args, PrintStream protocol) {
        try {
            if (args.length == 0) {
                throw new UsageException("usage: interop|features|produce|consume --flag value ...");
            }
            Flags flags = Flags.parse(Arrays.asList(args).subList(1, args.length));
            return switch (args[0]) {
                case "interop" -> new Interop(flags, protocol).run();
                case "features" -> new Features(flags, protocol).run();
                case "produce" -> new Produce(flags, protocol).run();
                case "consume" -> new Consume(flags, protocol).run();
                case "lite-hold" -> new LiteHolder(flags, protocol).run();
                default -> throw new UsageException("unknown command " + args[0]);
            };
        } catch (UsageException e) {
            System.err.println(e.getMessage());
            return EXIT_USAGE;
        } catch (Exception e) {
            e.printStackTrace();
            return 1;
        }
    }

    /** Must run before the first client class is loaded: that reads the properties. */
    private static void keepClientLogsInAFile() {
        String directory = System.getenv("DRIVER_LOG_DIR");
        if (directory == null) {
            directory = System.getProperty("java.io.tmpdir");
        }
        // One folder for each process: the client's rolling log file can not be shared.
        String name = "raftmq-java-driver-" + ProcessHandle.current().pid();
        System.setProperty("rocketmq.log.root", Path.of(directory, name).toString());
        System.setProperty("rocketmq.log.level", "warn");
    }
}
