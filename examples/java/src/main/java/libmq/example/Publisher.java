package libmq.example;

import com.google.protobuf.ByteString;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import io.libmq.v1.Failure;
import io.libmq.v1.Header;
import io.libmq.v1.OutgoingMessage;
import io.libmq.v1.PublishResult;
import io.libmq.v1.PublishServiceGrpc;
import io.libmq.v1.PublishStreamRequest;
import io.libmq.v1.PublishStreamResponse;
import io.libmq.v1.PublishWindow;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** Publishes each line of standard input as a message, and ends when the broker has stored all of them. */
public final class Publisher {
    private static final int BATCH_MESSAGES = 100, BATCH_BYTES = 64 * 1024;
    /** How long to go on without a single answer. */
    private static final long PATIENCE_NS = 30_000_000_000L;

    private final String topic;
    private final BufferedReader lines =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    private final String run = UUID.randomUUID().toString();
    private long messages, batches, stored, lastAnswer = System.nanoTime();
    /** In order, kept so that they can be sent again. */
    private final Map<Long, PublishStreamRequest> unanswered = new LinkedHashMap<>();

    /** The broker did not store a batch. */
    private static final class Refused extends Exception {
        final Failure failure;

        Refused(Failure failure) {
            super((failure.getField().isEmpty() ? "" : failure.getField() + ": ") + failure.getMessage());
            this.failure = failure;
        }
    }

    private Publisher(String topic) {
        this.topic = topic;
    }

    /** The next batch, or null at the end of the lines. */
    private PublishStreamRequest next() throws IOException {
        PublishStreamRequest.Builder batch =
                PublishStreamRequest.newBuilder().setCorrelation(batches).setTopic(topic);
        String line;
        for (int size = 0;
                batch.getMessagesCount() < BATCH_MESSAGES && size < BATCH_BYTES && (line = lines.readLine()) != null; ) {
            if (line.isEmpty()) {
                continue; // A message has at least one byte.
            }
            ByteString body = ByteString.copyFromUtf8(line);
            size += body.size();
            Header header = Header.newBuilder()
                    .setName("content-type")
                    .setValue(ByteString.copyFromUtf8("text/plain"))
                    .build();
            // A message that is sent again has the same id again, and is stored once.
            batch.addMessages(OutgoingMessage.newBuilder()
                    .setBody(body)
                    .addHeaders(header)
                    .setDedupId(run + "-" + messages++));
        }
        if (batch.getMessagesCount() == 0) {
            return null;
        }
        PublishStreamRequest built = batch.build();
        unanswered.put(batches++, built);
        return built;
    }

    /** How many of our batches may be unanswered. */
    private static long ahead(PublishWindow window) {
        long messages = window.getMessages() / BATCH_MESSAGES, bytes = window.getBytes() / BATCH_BYTES;
        return Math.max(1, Math.min(window.getBatches(), Math.min(messages, bytes)));
    }

    /** Publishes over one stream until everything is answered. */
    private void publish(Connection connection) throws Refused, IOException, InterruptedException {
        Responses<PublishStreamResponse> responses = new Responses<>();
        StreamObserver<PublishStreamRequest> requests =
                PublishServiceGrpc.newStub(connection.channel()).publishStream(responses);
        try {
            long limit = ahead(responses.next().getWindow());
            unanswered.values().forEach(requests::onNext);
            boolean more = true;
            while (more || !unanswered.isEmpty()) {
                while (more && unanswered.size() < limit) {
                    PublishStreamRequest batch = next();
                    more = batch != null;
                    if (more) {
                        requests.onNext(batch);
                    }
                }
                if (!unanswered.isEmpty()) {
                    answered(responses.next().getResults().getResultsList());
                    connection.resetPause();
                }
            }
            requests.onCompleted();
        } catch (Refused refused) {
            requests.onError(refused);
            throw refused;
        }
    }

    private void answered(List<PublishResult> results) throws Refused {
        for (PublishResult result : results) {
            if (result.hasFailure()) {
                throw new Refused(result.getFailure());
            }
            stored += unanswered.remove(result.getCorrelation()).getMessagesCount();
            lastAnswer = System.nanoTime();
        }
    }

    private void run(Connection connection) throws Exception {
        for (; ; ) {
            long pauseMs = 0;
            Exception why;
            try {
                publish(connection);
                return;
            } catch (Refused refused) {
                why = refused;
                pauseMs = refused.failure.getRetryAfterMs();
            } catch (StatusRuntimeException error) {
                why = error;
                if (error.getStatus().getCode() == Status.Code.UNAVAILABLE) {
                    pauseMs = connection.nextPauseMs();
                }
            }
            if (pauseMs == 0 || System.nanoTime() - lastAnswer > PATIENCE_NS) {
                throw new IOException(stored + " messages are stored, then: " + why.getMessage());
            }
            Thread.sleep(pauseMs);
        }
    }

    public static void main(String[] words) {
        try {
            Map<String, String> arguments =
                    Connection.arguments(words, List.of("--topic"), List.of("--address", "--ca"));
            try (Connection connection = new Connection(arguments)) {
                Publisher publisher = new Publisher(arguments.get("--topic"));
                publisher.run(connection);
                System.err.println("published " + publisher.stored + " messages");
            }
        } catch (Exception error) {
            System.err.println("publisher: " + error.getMessage());
            System.exit(1);
        }
    }
}
