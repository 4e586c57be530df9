package libmq.example;

import io.libmq.client.Consumer;
import io.libmq.client.ConsumerOptions;
import io.libmq.client.Delivery;
import io.libmq.client.Handler;
import io.libmq.client.MqClient;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicLong;

/** Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM. */
public final class Worker {
    /**
     * Your work: what throws is delivered again later. A message may come more than once, where this process
     * ends first.
     */
    private static void process(Delivery message) throws IOException {
        if (message.text().equals("fail-once") && message.attempts() == 1) {
            throw new IOException("this one fails at its first attempt");
        }
        System.out.println(message.text());
    }

    private static void run(Arguments arguments) throws Exception {
        AtomicLong left = new AtomicLong(Long.parseLong(arguments.get("--count", "0")));
        CompletableFuture<Void> done = new CompletableFuture<>();
        Handler handler = message -> {
            process(message);
            if (left.decrementAndGet() == 0) {
                done.complete(null);
            }
        };
        try (MqClient client = arguments.client();
                Consumer consumer = client.consumer(
                        arguments.get("--topic", ""),
                        arguments.get("--channel", ""),
                        handler,
                        new ConsumerOptions().name("example worker (Java)"))) {
            consumer.closeOnExit();
            consumer.ended().whenComplete((ended, refused) -> done.complete(null));
            done.get();
            consumer.close(Duration.ofSeconds(30));
            consumer.await();
        }
    }

    public static void main(String[] words) {
        try {
            run(new Arguments(words, List.of("--topic", "--channel"), List.of("--address", "--ca", "--count")));
        } catch (Exception error) {
            System.err.println("worker: " + error.getMessage());
            System.exit(1);
        }
    }
}
