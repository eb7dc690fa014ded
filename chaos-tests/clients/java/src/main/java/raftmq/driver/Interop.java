package raftmq.driver;

import java.io.PrintStream;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;

/** Runs the checks one after the other and prints a line of JSON for each. */
final class Interop {
    /** A check that takes longer hangs: the longest healthy one needs about a minute. */
    private static final long CHECK_SECONDS = 180;
    private static final long BULK_SECONDS = 900;

    private final PrintStream out;
    private final Fixture fixture;
    /** The checks that this run does, by name, in order; each returns its detail. */
    private final Map<String, Callable<String>> checks;

    Interop(Flags flags, PrintStream out) throws UsageException {
        this.out = out;
        fixture = new Fixture(flags, "topic", "topic2", "group", "group2");
        checks = CheckRun.selected(all(fixture), flags);
    }

    private static Map<String, Callable<String>> all(Fixture fixture) {
        SendChecks sends = new SendChecks(fixture);
        ConsumeChecks consumes = new ConsumeChecks(fixture);
        InvisibilityChecks invisibility = new InvisibilityChecks(fixture);
        PushChecks pushes = new PushChecks(fixture);
        Map<String, Callable<String>> checks = new LinkedHashMap<>();
        checks.put("send_sync", sends::sendSync);
        checks.put("send_async", sends::sendAsync);
        checks.put("push_consume", pushes::pushConsume);
        checks.put("simple_consume_ack", consumes::simpleConsumeAck);
        checks.put("redelivery", invisibility::redelivery);
        checks.put("change_invisible", invisibility::changeInvisible);
        checks.put("tag_filter", consumes::tagFilter);
        checks.put("two_groups", consumes::twoGroups);
        checks.put("shared_group", consumes::sharedGroup);
        checks.put("unknown_topic", sends::unknownTopic);
        checks.put("body_too_large", sends::bodyTooLarge);
        checks.put("properties_and_keys", consumes::propertiesAndKeys);
        checks.put("bulk", pushes::bulk);
        return checks;
    }

    /** Returns the exit code: 0 only if every check was all right. */
    int run() throws Exception {
        boolean allOk = true;
        for (Map.Entry<String, Callable<String>> check : checks.entrySet()) {
            String name = check.getKey();
            long limit = name.equals("bulk") ? BULK_SECONDS : CHECK_SECONDS;
            allOk &= CheckRun.print(out, name, check.getValue(), limit);
        }
        fixture.close();
        return allOk ? 0 : 1;
    }
}
