package libmq.example;

import io.libmq.client.Message;
import io.libmq.client.MqClient;
import io.libmq.client.PublisherOptions;
import io.libmq.client.Receipt;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

/** Publishes each line of standard input as a message, and ends when the broker has stored all of them. */
public final class Publisher {
    private static void run(Arguments arguments) throws Exception {
        AtomicLong stored = new AtomicLong();
        AtomicReference<Throwable> failure = new AtomicReference<>();
        byte[] text = "text/plain".getBytes(StandardCharsets.UTF_8);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (MqClient client = arguments.client();
                io.libmq.client.Publisher publisher = client.publisher(new PublisherOptions())) {
            for (String line; failure.get() == null && (line = lines.readLine()) != null; ) {
                // A message has at least one byte.
                if (!line.isEmpty()) {
                    Message message = Message.of(line).withHeader("content-type", text);
                    CompletableFuture<Receipt> sent = publisher.send(arguments.get("--topic", ""), message);
                    sent.whenComplete((receipt, error) -> {
                        stored.addAndGet(error == null ? 1 : 0);
                        failure.compareAndSet(null, error);
                    });
                }
            }
        }
        if (failure.get() != null) {
            throw new IllegalStateException(stored + " messages are stored, then: " + failure.get().getMessage());
        }
        System.err.println("published " + stored + " messages");
    }

    public static void main(String[] words) {
        try {
            run(new Arguments(words, List.of("--topic"), List.of("--address", "--ca")));
        } catch (Exception error) {
            System.err.println("publisher: " + error.getMessage());
            System.exit(1);
        }
    }
}
