package raftmq.driver;

import java.io.PrintStream;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;

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
        fixture = new Fixture(flags);
        checks = all(fixture);
        if (flags.optional("only").isPresent()) {
            Set<String> only = Arrays.stream(flags.required("only").split(","))
                .collect(Collectors.toSet());
            if (!checks.keySet().containsAll(only)) {
                throw new UsageException("--only knows " + checks.keySet());
            }
            checks.keySet().retainAll(only);
        }
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
            allOk &= run(check.getKey(), check.getValue());
        }
        fixture.close();
        return allOk ? 0 : 1;
    }

    private boolean run(String name, Callable<String> check) throws InterruptedException {
        // A thread of its own: the client may hang, and the other checks should still run.
        FutureTask<String> task = new FutureTask<>(check);
        Thread thread = new Thread(task, name);
        thread.start();
        long limit = name.equals("bulk") ? BULK_SECONDS : CHECK_SECONDS;
        boolean ok = false;
        String detail;
        try {
            detail = task.get(limit, TimeUnit.SECONDS);
            ok = true;
        } catch (ExecutionException e) {
            detail = e.getCause() instanceof CheckFailed
                ? e.getCause().getMessage()
                : Failures.describe(e.getCause());
        } catch (TimeoutException e) {
            task.cancel(true);
            detail = "not finished after " + limit + " s";
        }
        out.println(Json.object("check", name, "ok", ok, "detail", detail));
        return ok;
    }
}
