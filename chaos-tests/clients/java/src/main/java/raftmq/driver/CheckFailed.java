package raftmq.driver;

/** A check saw something else than it should; the message says what. */
final class CheckFailed extends Exception {
    private static final long serialVersionUID = 1L;

    CheckFailed(String message) {
        super(message);
    }

    static void unless(boolean expectation, String message) throws CheckFailed {
        if (!expectation) {
            throw new CheckFailed(message);
        }
    }
}
