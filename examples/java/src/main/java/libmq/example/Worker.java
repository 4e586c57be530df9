package libmq.example;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import mq.v1.Common.ReceivedMessage;
import mq.v1.Subscribe.SubscribeCredit;
import mq.v1.Subscribe.SubscribeOpen;
import mq.v1.Subscribe.SubscribeRequest;
import mq.v1.Subscribe.SubscribeRequeue;
import mq.v1.Subscribe.SubscribeResponse;
import mq.v1.SubscribeServiceGrpc;

/** Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM. */
public final class Worker {
    /** Messages that we may have unfinished at a time. Finishing some makes room for others: credit is given once. */
    private static final int CREDIT = 256;

    private static final long RETRY_AFTER_MS = 500;

    private static final PrintStream out = new PrintStream(System.out, false);

    private final String topic, channel;
    /** How many are still to be finished; 0 for any number. */
    private long left;

    private boolean stopping;
    private StreamObserver<SubscribeRequest> requests;

    private Worker(String topic, String channel, long count) {
        this.topic = topic;
        this.channel = channel;
        left = count;
    }

    /** Your work: what throws is delivered again later. A message may come more than once in any case. */
    private static void process(ReceivedMessage message) throws IOException {
        if (message.getBody().toStringUtf8().equals("fail-once") && message.getAttempts() == 1) {
            throw new IOException("this one fails at its first attempt");
        }
        message.getBody().writeTo(out);
        out.write('\n');
    }

    /** Works over one stream until it ends. */
    private void run(Connection connection) throws InterruptedException {
        Responses<SubscribeResponse> responses = new Responses<>();
        SubscribeOpen open = SubscribeOpen.newBuilder()
                .setTopic(topic)
                .setChannel(channel)
                .setClientName("example worker (Java)")
                .build();
        synchronized (this) {
            if (stopping) {
                return;
            }
            requests = SubscribeServiceGrpc.newStub(connection.channel()).subscribe(responses);
            requests.onNext(SubscribeRequest.newBuilder()
                    .setOpen(open)
                    .setCredit(SubscribeCredit.newBuilder().setMessages(CREDIT))
                    .build());
        }
        for (SubscribeResponse response; (response = responses.next()) != null; ) {
            switch (response.getResponseCase()) {
                case OPENED:
                    connection.resetPause();
                    break;
                case BATCH:
                    work(response.getBatch().getMessagesList());
                    break;
                case FAILURES:
                    // Their timeout had passed: they are delivered again, here or elsewhere.
                    System.err.println(response.getFailures().getFailuresCount() + " came too late");
                    break;
                default:
                    break;
            }
        }
    }

    /** Processes messages, and tells the broker of all at once. */
    private synchronized void work(List<ReceivedMessage> messages) {
        if (stopping) {
            return;
        }
        SubscribeRequest.Builder acks = SubscribeRequest.newBuilder();
        List<Long> failed = new ArrayList<>();
        for (ReceivedMessage message : messages) {
            try {
                process(message);
            } catch (IOException error) {
                System.err.println("to be tried again: " + error.getMessage());
                failed.add(message.getId());
                continue;
            }
            acks.addFinish(message.getId());
            if (left > 0 && --left == 0) {
                stopping = true;
                break;
            }
        }
        out.flush();
        if (!failed.isEmpty()) {
            acks.addRequeue(SubscribeRequeue.newBuilder().addAllIds(failed).setDelayMs(RETRY_AFTER_MS));
        }
        requests.onNext(acks.build());
        if (stopping) {
            requests.onCompleted();
        }
    }

    /** Closes our side behind the last acknowledgement: what we have not worked on returns to the channel at once. */
    private synchronized void stop() {
        if (!stopping && requests != null) {
            requests.onCompleted();
        }
        stopping = true;
    }

    private synchronized boolean isStopping() {
        return stopping;
    }

    private static void run(Map<String, String> arguments) throws Exception {
        long count = Long.parseLong(arguments.getOrDefault("--count", "0"));
        Worker worker = new Worker(arguments.get("--topic"), arguments.get("--channel"), count);
        try (Connection connection = new Connection(arguments)) {
            Thread main = Thread.currentThread();
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                worker.stop();
                try {
                    main.join(5000);
                } catch (InterruptedException error) {
                    // The Java VM ends in any case.
                }
            }));
            while (!worker.isStopping()) {
                try {
                    worker.run(connection);
                } catch (StatusRuntimeException error) {
                    if (error.getStatus().getCode() != Status.Code.UNAVAILABLE) {
                        throw error;
                    }
                    System.err.println("connecting again: " + error.getMessage());
                    Thread.sleep(connection.nextPauseMs());
                }
            }
        }
    }

    public static void main(String[] words) {
        try {
            run(Connection.arguments(
                    words, List.of("--topic", "--channel"), List.of("--address", "--ca", "--count")));
        } catch (Exception error) {
            System.err.println("worker: " + error.getMessage());
            // Not exit: the hook would wait for this thread.
            Runtime.getRuntime().halt(1);
        }
    }
}
