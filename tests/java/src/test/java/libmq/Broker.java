package libmq;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.Socket;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.rules.TemporaryFolder;

/** The binary that MQ_BIN names, as a process on a free port and a folder that outlives it. */
final class Broker implements AutoCloseable {
    private final File data;
    private final List<String> flags;
    private Process process;
    private String address = "127.0.0.1:0";
    private String http;

    Broker(TemporaryFolder folder, String... flags) throws IOException {
        data = new File(folder.newFolder(), "data");
        this.flags = List.of(flags);
        run();
    }

    /** Starts it, again if it ran before: on the same port and folder. */
    void run() throws IOException {
        List<String> command = new ArrayList<>(List.of(System.getenv("MQ_BIN"), "serve"));
        command.addAll(List.of("-tcp-address", address, "-http-address", "127.0.0.1:0", "-https-address=", "-grpc-address=", "-data-path", data.getPath()));
        command.addAll(flags);
        process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()));
        address = ready(lines.readLine(), "tcp ");
        http = ready(lines.readLine(), "http ");
    }

    private static String ready(String line, String prefix) throws IOException {
        if (line == null || !line.startsWith(prefix)) {
            throw new IOException("the broker is not ready: " + line);
        }
        return line.substring(prefix.length());
    }

    /** Asks for a change over HTTP. */
    void post(String path) throws IOException {
        HttpURLConnection asked = (HttpURLConnection) URI.create("http://" + http + path).toURL().openConnection();
        asked.setRequestMethod("POST");
        if (asked.getResponseCode() != 200) {
            throw new IOException(path + ": " + asked.getResponseCode());
        }
    }

    String address() {
        return address;
    }

    /** Creates a channel of topic t: what is published before it exists goes to the others only. */
    void createChannel(String channel) throws IOException {
        String[] parts = address.split(":");
        try (Socket socket = new Socket(parts[0], Integer.parseInt(parts[1]))) {
            socket.getOutputStream().write(("  V2SUB t " + channel + "\n").getBytes());
            String reply = new String(socket.getInputStream().readNBytes(10));
            if (!reply.endsWith("OK")) {
                throw new IOException("SUB: " + reply);
            }
        }
    }

    /** kill -9, and gone. */
    void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    /** SIGTERM must be a clean stop. */
    @Override
    public void close() throws Exception {
        process.destroy();
        if (!process.waitFor(10, TimeUnit.SECONDS) || process.exitValue() != 0) {
            process.destroyForcibly();
            throw new AssertionError("SIGTERM is a clean stop");
        }
    }
}
