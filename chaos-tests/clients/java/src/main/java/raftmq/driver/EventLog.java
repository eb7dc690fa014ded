package raftmq.driver;

import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** The file that one line of JSON is appended to for each event, at once. */
final class EventLog implements AutoCloseable {
    private final OutputStream file;

    EventLog(Path path) throws IOException {
        file = Files.newOutputStream(path, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    /** Unbuffered, so that a line is in the file even if this process is killed next. */
    synchronized void append(String json) {
        try {
            file.write((json + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            throw new UncheckedIOException("could not append to the event log", e);
        }
    }

    @Override
    public void close() throws IOException {
        file.close();
    }
}
