package io.libmq.client;

import com.google.protobuf.ByteString;
import com.sun.management.OperatingSystemMXBean;
import io.libmq.v1.OutgoingMessage;
import io.libmq.v1.PublishRequest;
import io.libmq.v1.PublishServiceGrpc;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;

/**
 * Prints the CPU time of this process for a message: by a unary call each, through a publisher that waits for
 * each, and one that does not. Arguments: the broker's address, threads, messages.
 */
public final class PublishCost {
    private static final byte[] BODY = new byte[100];

    public static void main(String[] words) throws Exception {
        int threads = Integer.parseInt(words[1]), messages = Integer.parseInt(words[2]);
        try (MqClient client = MqClient.of(words[0]);
                Publisher publisher = client.publisher()) {
            PublishServiceGrpc.PublishServiceBlockingStub stub =
                    PublishServiceGrpc.newBlockingStub(client.channel(words[0]));
            OutgoingMessage message = OutgoingMessage.newBuilder().setBody(ByteString.copyFrom(BODY)).build();
            PublishRequest request = PublishRequest.newBuilder().setTopic("t").addMessages(message).build();
            Callable<?> unary = () -> stub.publish(request);
            Callable<?> batched = () -> publisher.publish("t", Message.of(BODY));
            Callable<?> sent = () -> publisher.send("t", Message.of(BODY));
            // The first round is for the compiler.
            for (int round = 0; round < 2; round++) {
                System.out.println("unary     " + measure(threads, messages, unary, publisher) + " ns");
                System.out.println("publisher " + measure(threads, messages, batched, publisher) + " ns");
                System.out.println("sent      " + measure(threads, messages, sent, publisher) + " ns");
            }
        }
    }

    /** What is sent counts until it has its result. */
    private static long measure(int threads, int messages, Callable<?> publish, Publisher publisher)
            throws Exception {
        OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        long before = system.getProcessCpuTime();
        List<Thread> all = new ArrayList<>();
        for (int n = 0; n < threads; n++) {
            Thread thread = new Thread(() -> {
                try {
                    for (int m = 0; m < messages / threads; m++) {
                        publish.call();
                    }
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            thread.start();
            all.add(thread);
        }
        for (Thread thread : all) {
            thread.join();
        }
        publisher.flush(Duration.ofMinutes(1));
        return (system.getProcessCpuTime() - before) / messages;
    }
}
