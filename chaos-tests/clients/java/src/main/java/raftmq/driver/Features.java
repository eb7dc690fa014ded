package raftmq.driver;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Runs the checks of message types, filters, retries and lite topics, all at once: they wait most of the time.
 * Each has a topic and a group of its own, named after it.
 */
final class Features {
    /** A check that takes longer hangs: the longest healthy one needs a quarter of that. */
    private static final long CHECK_SECONDS = 100;

    private final PrintStream out;
    /** The checks that this run does, by name; each returns its detail. */
    private final Map<String, Callable<String>> checks;

    Features(Flags flags, PrintStream out) throws UsageException {
        this.out = out;
        checks = CheckRun.selected(all(new Fixture(flags, "topic", "group")), flags);
    }

    private static Map<String, Callable<String>> all(Fixture fixture) {
        FifoChecks fifo = new FifoChecks(fixture);
        DelayChecks delay = new DelayChecks(fixture);
        TransactionChecks transaction = new TransactionChecks(fixture);
        FilterChecks filter = new FilterChecks(fixture);
        RetryChecks retry = new RetryChecks(fixture);
        TypeChecks type = new TypeChecks(fixture);
        LiteChecks lite = new LiteChecks(fixture);
        Map<String, Callable<String>> checks = new LinkedHashMap<>();
        checks.put("fifo_order_simple", fifo::orderSimple);
        checks.put("fifo_order_push", fifo::orderPush);
        checks.put("fifo_blocked", fifo::blocked);
        checks.put("fifo_dead_letter", fifo::deadLetter);
        checks.put("delay", delay::delay);
        checks.put("recall", delay::recall);
        checks.put("transaction", transaction::transaction);
        checks.put("transaction_check", transaction::transactionCheck);
        checks.put("sql_filter_simple", filter::simple);
        checks.put("sql_filter_push", filter::push);
        checks.put("sql_malformed", filter::malformed);
        checks.put("retry_backoff", retry::backoff);
        checks.put("wrong_type", type::wrongType);
        checks.put("mixed", type::mixed);
        checks.put("priority", new PriorityChecks(fixture)::priority);
        checks.put("lite_push", lite::push);
        checks.put("lite_subscriptions", lite::subscriptions);
        checks.put("lite_members", lite::members);
        checks.put("lite_dead_letter", lite::deadLetter);
        checks.put("lite_quota", lite::quota);
        checks.put("lite_topic_quota", lite::topicQuota);
        checks.put("lite_exclusive", lite::exclusive);
        checks.put("lite_illegal_name", lite::illegalName);
        checks.put("lite_takeover", lite::takeover);
        return checks;
    }

    /**
     * Returns the exit code: 0 only if every check was all right. Clients are left open, as the
     * process ends soon and a push consumer takes 20 s to close.
     */
    int run() throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        List<Future<Boolean>> runs = new ArrayList<>();
        checks.forEach((name, check) ->
            runs.add(threads.submit(() -> CheckRun.print(out, name, check, CHECK_SECONDS))));
        boolean allOk = true;
        for (Future<Boolean> run : runs) {
            allOk &= run.get();
        }
        return allOk ? 0 : 1;
    }
}
