package io.libmq.client;

import io.libmq.v1.AdminServiceGrpc;
import io.libmq.v1.ChannelStats;
import io.libmq.v1.GetStatsRequest;
import io.libmq.v1.GetStatsResponse;
import io.libmq.v1.TopicStats;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import org.junit.rules.TemporaryFolder;

/** A server of the binary that MQ_BIN names, on free ports and a folder that outlive it. */
final class Server implements AutoCloseable {
    /** Longest wait of a test for what must come: spent only on failure. */
    static final long PATIENCE_S = 60;

    private final List<String> arguments;
    private final Map<String, String> addresses = new LinkedHashMap<>();
    private Process process;

    private Server(List<String> arguments) throws IOException {
        this.arguments = arguments;
        List.of("tcp", "http", "grpc").forEach(name -> addresses.put(name, "127.0.0.1:0"));
        run();
    }

    static Server broker(TemporaryFolder folder, String... flags) throws IOException {
        String data = new File(folder.newFolder(), "data").getPath();
        List<String> arguments = new ArrayList<>(List.of("serve", "-https-address=", "-data-path", data));
        arguments.addAll(List.of(flags));
        return new Server(arguments);
    }

    static Server lookup() throws IOException {
        return new Server(List.of("lookup"));
    }

    /** Starts it, again if it ran before: on the same ports and folder. */
    void run() throws IOException {
        List<String> command = new ArrayList<>(List.of(System.getenv("MQ_BIN")));
        command.addAll(arguments);
        command.addAll(List.of("-log-level", "warn"));
        addresses.forEach((name, address) -> command.addAll(List.of("-" + name + "-address", address)));
        process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()));
        for (int left = addresses.size(); left > 0; left--) {
            String line = lines.readLine();
            if (line == null) {
                throw new IOException("the server is not ready");
            }
            addresses.put(line.split(" ")[0], line.split(" ")[1]);
        }
    }

    /** kill -9, and gone. */
    void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
        process = null;
    }

    String address() {
        return addresses.get("grpc");
    }

    String address(String name) {
        return addresses.get(name);
    }

    /** Statistics of topic t. */
    TopicStats topic(MqClient client) {
        GetStatsResponse answer = AdminServiceGrpc.newBlockingStub(client.channel(address()))
                .withWaitForReady()
                .getStats(GetStatsRequest.newBuilder().setTopic("t").build());
        return answer.getTopicsCount() > 0 ? answer.getTopics(0) : TopicStats.getDefaultInstance();
    }

    /** Statistics of its channel. */
    ChannelStats channel(MqClient client) {
        TopicStats topic = topic(client);
        return topic.getChannelsCount() > 0 ? topic.getChannels(0) : ChannelStats.getDefaultInstance();
    }

    /** Waits until all of the channel is finished. */
    void holdsNothing(MqClient client) throws InterruptedException {
        eventually(() -> "the channel holds nothing: " + channel(client), () -> {
            ChannelStats left = channel(client);
            return left.getDepth() + left.getInFlight() + left.getDeferred() == 0;
        });
    }

    static void eventually(Supplier<String> what, BooleanSupplier is) throws InterruptedException {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!is.getAsBoolean()) {
            if (System.nanoTime() - until > 0) {
                throw new AssertionError("waited " + PATIENCE_S + " s for: " + what.get());
            }
            Thread.sleep(2);
        }
    }

    static void eventually(String what, BooleanSupplier is) throws InterruptedException {
        eventually(() -> what, is);
    }

    /** SIGTERM must be a clean stop. */
    @Override
    public void close() throws Exception {
        if (process == null) {
            return;
        }
        process.destroy();
        if (!process.waitFor(10, TimeUnit.SECONDS) || process.exitValue() != 0) {
            process.destroyForcibly();
            throw new AssertionError("SIGTERM is a clean stop");
        }
    }
}
