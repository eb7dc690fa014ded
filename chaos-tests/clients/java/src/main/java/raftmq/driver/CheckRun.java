package raftmq.driver;

import java.io.PrintStream;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;

/** Runs one check and prints its line of JSON. */
final class CheckRun {
    private CheckRun() {
    }

    /** Those of the checks that {@code --only} names: all, without it. */
    static Map<String, Callable<String>> selected(Map<String, Callable<String>> checks,
        Flags flags) throws UsageException {
        if (flags.optional("only").isPresent()) {
            Set<String> only = Arrays.stream(flags.required("only").split(","))
                .collect(Collectors.toSet());
            if (!checks.keySet().containsAll(only)) {
                throw new UsageException("--only knows " + checks.keySet());
            }
            checks.keySet().retainAll(only);
        }
        return checks;
    }

    /** Returns whether the check, which returns its detail, was all right. */
    static boolean print(PrintStream out, String name, Callable<String> check, long limitSeconds)
        throws InterruptedException {
        // A thread of its own: the client may hang, and the other checks should still run.
        FutureTask<String> task = new FutureTask<>(check);
        Thread thread = new Thread(task, name);
        thread.start();
        boolean ok = false;
        String detail;
        try {
            detail = task.get(limitSeconds, TimeUnit.SECONDS);
            ok = true;
        } catch (ExecutionException e) {
            detail = e.getCause() instanceof CheckFailed
                ? e.getCause().getMessage()
                : Failures.describe(e.getCause());
        } catch (TimeoutException e) {
            task.cancel(true);
            detail = "not finished after " + limitSeconds + " s";
        }
        out.println(Json.object("check", name, "ok", ok, "detail", detail));
        return ok;
    }
}
