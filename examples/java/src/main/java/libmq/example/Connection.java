package libmq.example;

import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** What both examples share: their arguments, a connection to the broker, and pauses between attempts. */
final class Connection implements AutoCloseable {
    private static final long FIRST_PAUSE_MS = 100, LONGEST_PAUSE_MS = 2000;

    private final ManagedChannel connection;
    private long pauseMs = FIRST_PAUSE_MS;

    /** Connects over TLS if --ca names the PEM file of who signed the broker's certificate. */
    Connection(Map<String, String> arguments) throws IOException {
        String address = arguments.getOrDefault("--address", "127.0.0.1:4155"), ca = arguments.get("--ca");
        connection = Grpc.newChannelBuilder(
                        address,
                        ca == null
                                ? InsecureChannelCredentials.create()
                                : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build())
                // A broker that is gone without a word is noticed after these.
                .keepAliveTime(20, TimeUnit.SECONDS)
                .keepAliveTimeout(20, TimeUnit.SECONDS)
                // The broker says how large a message may be.
                .maxInboundMessageSize(Integer.MAX_VALUE)
                .build();
    }

    /** Shows the token in MQ_TOKEN, if there is one. Without TLS it can be read on its way. */
    Channel channel() {
        Metadata shown = new Metadata();
        String token = System.getenv("MQ_TOKEN");
        if (token != null) {
            shown.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
        }
        return ClientInterceptors.intercept(connection, MetadataUtils.newAttachHeadersInterceptor(shown));
    }

    /** Milliseconds to wait before the next attempt: more each time. */
    long nextPauseMs() {
        long pause = pauseMs;
        pauseMs = Math.min(2 * pause, LONGEST_PAUSE_MS);
        return pause;
    }

    /** An attempt went well. */
    void resetPause() {
        pauseMs = FIRST_PAUSE_MS;
    }

    @Override
    public void close() {
        connection.shutdownNow();
    }

    /** Pairs of a name and a value. */
    static Map<String, String> arguments(String[] words, List<String> required, List<String> optional) {
        Map<String, String> arguments = new HashMap<>();
        for (int at = 0; at < words.length; at += 2) {
            if (!required.contains(words[at]) && !optional.contains(words[at])) {
                throw new IllegalArgumentException(words[at] + " is unknown");
            }
            if (at + 1 == words.length) {
                throw new IllegalArgumentException(words[at] + " needs a value");
            }
            arguments.put(words[at], words[at + 1]);
        }
        for (String name : required) {
            if (!arguments.containsKey(name)) {
                throw new IllegalArgumentException(name + " is missing");
            }
        }
        return arguments;
    }
}
