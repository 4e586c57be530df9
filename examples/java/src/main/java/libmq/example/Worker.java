package libmq.example;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import io.libmq.v1.ReceivedMessage;
import io.libmq.v1.SubscribeCredit;
import io.libmq.v1.SubscribeOpen;
import io.libmq.v1.SubscribeRequest;
import io.libmq.v1.SubscribeRequeue;
import io.libmq.v1.SubscribeResponse;
import io.libmq.v1.SubscribeServiceGrpc;
import io.libmq.v1.SubscribeUpdate;
import java.io.IOException;
import java.io.PrintStream;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;

/** Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM. */
public final class Worker {
    /**
     * Messages that we may have unfinished at a time: the one at work and a few that wait. Finishing some makes room for
     * others, so credit is given once. What waits here must not wait for longer than the message timeout.
     */
    private static final int CREDIT = 16;

    private static final long RETRY_AFTER_MS = 500;
    /** The timeout of what waits starts anew this often. */
    private static final long TOUCH_EVERY_MS = 10_000;

    private static final PrintStream out = new PrintStream(System.out, false);

    private final String topic, channel;
    /** How many are still to be finished; 0 for any number. */
    private long left;

    private boolean stopping, working;
    /** Our side of the stream is closed: nothing more is sent. What still comes returns when the stream ends. */
    private boolean closed;

    private StreamObserver<SubscribeRequest> requests;
    /** At work, the first, or waiting. */
    private final Deque<ReceivedMessage> waiting = new ArrayDeque<>();

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
                .setCredit(SubscribeCredit.newBuilder().setMessages(CREDIT))
                // Our channel takes messages of any size.
                .setMaxMessageBytes(0)
                .build();
        synchronized (this) {
            if (stopping) {
                return;
            }
            requests = SubscribeServiceGrpc.newStub(connection.channel()).subscribe(responses);
            waiting.clear();
            closed = false;
            requests.onNext(SubscribeRequest.newBuilder().setOpen(open).build());
        }
        Timer touching = new Timer(true);
        touching.schedule(
                new TimerTask() {
                    @Override
                    public void run() {
                        touch();
                    }
                },
                TOUCH_EVERY_MS,
                TOUCH_EVERY_MS);
        try {
            read(responses, connection);
        } finally {
            touching.cancel();
        }
    }

    private void read(Responses<SubscribeResponse> responses, Connection connection) throws InterruptedException {
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

    /** Sends a change of the stream, if our side is open still. */
    private synchronized void update(SubscribeUpdate.Builder changes) {
        if (!closed) {
            requests.onNext(SubscribeRequest.newBuilder().setUpdate(changes).build());
        }
    }

    /** Processes messages, and acknowledges each. */
    private void work(List<ReceivedMessage> messages) {
        synchronized (this) {
            waiting.addAll(messages);
            working = true;
        }
        for (ReceivedMessage message; (message = first()) != null; ) {
            SubscribeUpdate.Builder changes = SubscribeUpdate.newBuilder();
            try {
                process(message);
                out.flush();
                changes.addFinish(message.getToken());
            } catch (IOException error) {
                System.err.println("to be tried again: " + error.getMessage());
                changes.addRequeue(SubscribeRequeue.newBuilder()
                        .addTokens(message.getToken())
                        .setDelayMs(RETRY_AFTER_MS));
            }
            synchronized (this) {
                update(changes);
                waiting.removeFirst();
                if (changes.getFinishCount() > 0 && left > 0 && --left == 0) {
                    stopping = true;
                }
            }
        }
        synchronized (this) {
            working = false;
            if (stopping) {
                leave();
            }
        }
    }

    /** The message to work on next; null if there is none, or we are on our way out. */
    private synchronized ReceivedMessage first() {
        return stopping ? null : waiting.peekFirst();
    }

    /** Extends what is at work or waits. */
    private synchronized void touch() {
        if (!waiting.isEmpty()) {
            SubscribeUpdate.Builder changes = SubscribeUpdate.newBuilder();
            waiting.forEach(message -> changes.addTouch(message.getToken()));
            update(changes);
        }
    }

    /** Ends behind the message that is at work. */
    private synchronized void stop() {
        if (!stopping && requests != null && !working) {
            leave();
        }
        stopping = true;
    }

    /** Gives back what we have not worked on, which then counts as no attempt, and closes our side. */
    private void leave() {
        SubscribeUpdate.Builder changes =
                SubscribeUpdate.newBuilder().setCredit(SubscribeCredit.newBuilder().setMessages(0));
        waiting.forEach(message -> changes.addRelease(message.getToken()));
        waiting.clear();
        update(changes);
        if (!closed) {
            closed = true;
            requests.onCompleted();
        }
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
