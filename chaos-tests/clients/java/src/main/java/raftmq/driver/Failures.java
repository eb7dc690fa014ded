package raftmq.driver;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Reads what the client's exceptions say. */
final class Failures {
    /** The exceptions have no getter for the server's code, but their text has a fixed form. */
    private static final Pattern CODE = Pattern.compile("response-code=(\\d+)");

    private Failures() {
    }

    /** The server's status code, or 0 when the exception does not come from a server's reply. */
    static int code(Throwable failure) {
        Matcher matcher = CODE.matcher(String.valueOf(failure.getMessage()));
        return matcher.find() ? Integer.parseInt(matcher.group(1)) : 0;
    }

    /** The exception and its causes in one line. */
    static String describe(Throwable failure) {
        StringBuilder text = new StringBuilder(failure.toString());
        for (Throwable c = failure.getCause(); c != null; c = c.getCause()) {
            text.append("; caused by ").append(c);
        }
        return text.toString();
    }
}
