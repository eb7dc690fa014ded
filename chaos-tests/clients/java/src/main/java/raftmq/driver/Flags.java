package raftmq.driver;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Command line flags of the form {@code --name value}. */
record Flags(Map<String, String> values) {
    static Flags parse(List<String> args) throws UsageException {
        Map<String, String> values = new HashMap<>();
        for (int i = 0; i < args.size(); i += 2) {
            String flag = args.get(i);
            if (!flag.startsWith("--") || i + 1 == args.size()) {
                throw new UsageException("expected --flag value at " + flag);
            }
            values.put(flag.substring(2), args.get(i + 1));
        }
        return new Flags(values);
    }

    Optional<String> optional(String name) {
        return Optional.ofNullable(values.get(name));
    }

    String required(String name) throws UsageException {
        return optional(name).orElseThrow(() -> new UsageException("missing --" + name));
    }

    double requiredNumber(String name) throws UsageException {
        try {
            return Double.parseDouble(required(name));
        } catch (NumberFormatException e) {
            throw new UsageException("--" + name + " is not a number: " + required(name));
        }
    }

    int integer(String name, int fallback) throws UsageException {
        try {
            return optional(name).map(Integer::parseInt).orElse(fallback);
        } catch (NumberFormatException e) {
            throw new UsageException("--" + name + " is not an integer: " + required(name));
        }
    }
}
