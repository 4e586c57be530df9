package io.libmq.client;

import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.libmq.client.Pending.Batch;
import io.libmq.v1.OutgoingMessage;
import io.libmq.v1.PublishServiceGrpc;
import io.libmq.v1.PublishStreamRequest;
import io.libmq.v1.PublishStreamResponse;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Publishes single messages over one stream, in batches that it makes itself. Safe for use by many threads.
 *
 * <p>Messages of a topic are stored in the order they were taken in, but for those that had to be sent again.
 */
public final class Publisher implements AutoCloseable {
    private static final long EXPIRY_MS = 100;

    private final MqClient client;
    private final PublisherOptions options;
    /** Begins the ids that this publisher makes. */
    private final String name = UUID.randomUUID().toString().replace("-", "").substring(0, 20) + "-";

    private final Runnable end = () -> finish(MqException.closed());
    private final ReentrantLock lock = new ReentrantLock();
    /** Signalled when there may be room, and when results were passed on. */
    private final Condition changed = lock.newCondition();

    private final Outbox outbox;
    private final Pauses pauses = new Pauses();
    private List<Pending> settled = new ArrayList<>();
    private final ArrayDeque<Object> waiters = new ArrayDeque<>();
    /** Messages whose result was not passed on, by the flush that waits for them. */
    private final TreeMap<Long, Integer> rounds = new TreeMap<>();

    private long round, flushing, messages, pendingBytes;
    private int pending, broker;
    /** Nothing more is taken in; and nothing more is sent. */
    private boolean closed, ended;
    /** The stream, or null; then whether one is to be opened later. */
    private Link link;

    private boolean isPausing, isPumping;
    private long pumpAt;
    private ScheduledFuture<?> expiry;
    /** The reason for which there is no stream. */
    private MqException failure;
    /** The time when the broker was lost that has not answered all; 0: none was. */
    private long lostAt;

    Publisher(MqClient client, PublisherOptions options) {
        this.client = client;
        this.options = options;
        outbox = new Outbox(options, this::settle);
        client.register(end);
    }

    /**
     * Publishes a message and waits until it is stored. Where the thread is interrupted it may be stored too.
     */
    public Receipt publish(String topic, Message message) throws InterruptedException {
        try {
            return send(topic, message).get();
        } catch (ExecutionException error) {
            throw (MqException) error.getCause();
        }
    }

    /**
     * Takes a message in, and waits for room if too much is without a result. The future ends with an {@link
     * MqException} if the message is not stored; what depends on it runs on a thread of gRPC's, and must not
     * block.
     */
    public CompletableFuture<Receipt> send(String topic, Message message) throws InterruptedException {
        OutgoingMessage outgoing = message.outgoing();
        if (outgoing.getBody().isEmpty()) {
            return CompletableFuture.failedFuture(MqException.invalid("body", "a message has at least one byte"));
        }
        int bytes = Message.bytes(outgoing);
        lock.lockInterruptibly();
        try {
            await(bytes + Pending.OVERHEAD);
            if (closed) {
                return CompletableFuture.failedFuture(MqException.closed());
            }
            if (outgoing.getDedupId().isEmpty() && !options.withoutIds) {
                outgoing = outgoing.toBuilder().setDedupId(name + Long.toString(messages++, 36)).build();
            }
            long now = System.nanoTime();
            Pending taken = new Pending(outgoing, bytes, now + options.timeoutNs, round);
            pending++;
            pendingBytes += bytes + Pending.OVERHEAD;
            rounds.merge(round, 1, Integer::sum);
            if (expiry == null) {
                expiry = client.tasks().scheduleWithFixedDelay(this::expire, EXPIRY_MS, EXPIRY_MS, TimeUnit.MILLISECONDS);
            }
            // Nothing looks at a queue while nothing is pending, not even at one with messages that are
            // settled.
            if (outbox.add(topic, taken, now) || pending == 1) {
                pumpSoon();
            }
            return taken.future;
        } catch (RejectedExecutionException error) {
            return CompletableFuture.failedFuture(MqException.closed());
        } finally {
            unlock();
        }
    }

    /** Waits for room, first come first served. */
    private void await(int size) throws InterruptedException {
        Object self = new Object();
        waiters.add(self);
        try {
            while (!closed
                    && (waiters.peek() != self || pendingBytes > 0 && pendingBytes + size > options.maxPendingBytes)) {
                changed.await();
            }
        } finally {
            waiters.remove(self);
            if (!waiters.isEmpty()) {
                changed.signalAll();
            }
        }
    }

    /** Waits until everything that was taken in before has a result. Returns whether that came in time. */
    public boolean flush(Duration patience) throws InterruptedException {
        lock.lockInterruptibly();
        try {
            flushing++;
            long last = round++;
            pumpSoon();
            long left = patience.toNanos();
            while (!rounds.isEmpty() && rounds.firstKey() <= last && left > 0) {
                left = changed.awaitNanos(left);
            }
            return rounds.isEmpty() || rounds.firstKey() > last;
        } finally {
            flushing--;
            unlock();
        }
    }

    /**
     * Takes nothing more in, waits until everything has a result, and ends the stream. What has none in time
     * gets one: UNKNOWN for what was sent, CLOSED for what was not. Returns whether there was any such.
     */
    public boolean close(Duration patience) throws InterruptedException {
        lock.lock();
        closed = true;
        changed.signalAll();
        unlock();
        try {
            return flush(patience);
        } finally {
            finish(MqException.closed());
        }
    }

    /** Closes it within 30 seconds. */
    @Override
    public void close() throws InterruptedException {
        close(Duration.ofSeconds(30));
    }

    /** Ends everything. */
    private void finish(MqException why) {
        lock.lock();
        try {
            closed = true;
            ended = true;
            outbox.giveUp(message -> true, why);
            if (link != null) {
                link.end();
                link = null;
            }
            if (expiry != null) {
                expiry.cancel(false);
            }
            changed.signalAll();
        } finally {
            unlock();
        }
        client.unregister(end);
    }

    /** Gives a message its result, unless it has one. The lock is held. */
    private void settle(Pending message, Receipt receipt, MqException error) {
        if (message.isSettled) {
            return;
        }
        message.settle(receipt, error);
        pending--;
        pendingBytes -= message.bytes + Pending.OVERHEAD;
        if (!waiters.isEmpty()) {
            changed.signalAll();
        }
        settled.add(message);
    }

    /** Gives the lock up, and then passes results on. */
    private void unlock() {
        List<Pending> done = List.of();
        if (lock.getHoldCount() == 1 && !settled.isEmpty()) {
            done = settled;
            settled = new ArrayList<>();
        }
        lock.unlock();
        if (done.isEmpty()) {
            return;
        }
        done.forEach(Pending::complete);
        // Flushes return behind what depends on a result.
        lock.lock();
        for (Pending message : done) {
            rounds.merge(message.round, -1, (left, less) -> left + less == 0 ? null : left + less);
        }
        changed.signalAll();
        lock.unlock();
    }

    /** Has another thread send what there is to send: what comes meanwhile goes along. */
    private void pumpSoon() {
        if (!isPumping && !ended) {
            isPumping = true;
            client.tasks().execute(this::pump);
        }
    }

    /** Runs on the client's thread only, so batches are sent in order. */
    private void pump() {
        for (; ; ) {
            Link to;
            PublishStreamRequest request;
            lock.lock();
            try {
                isPumping = false;
                request = next();
                to = link;
            } catch (MqException error) {
                // The client is closed.
                outbox.giveUp(message -> true, error);
                return;
            } finally {
                unlock();
            }
            if (request == null) {
                return;
            }
            try {
                // The lock is not held: publishers need it.
                to.requests.onNext(request);
            } catch (IllegalStateException ended) {
                // The stream was ended meanwhile, and what was sent over it is decided on.
                return;
            }
        }
    }

    /**
     * The next batch to be sent; null if there is none. Opens a stream where that is needed. The lock is
     * held.
     */
    private PublishStreamRequest next() {
        if (link == null && pending > 0 && !isPausing && !ended) {
            link = new Link(client.brokers().get(broker));
            link.open();
        }
        if (link == null || !link.isOpened) {
            return null;
        }
        if (outbox.leaving != null) {
            if (outbox.sent() == 0) {
                link.end();
                lost(link, Status.UNAVAILABLE.withDescription(outbox.leaving.getMessage()));
            }
            return null;
        }
        long now = System.nanoTime();
        Batch batch = outbox.next(link.broker, now, flushing > 0 || closed);
        if (batch == null) {
            pumpIn(now, outbox.pauseNs);
            return null;
        }
        return batch.request();
    }

    private void pumpIn(long now, long pauseNs) {
        if (pauseNs == Long.MAX_VALUE || pumpAt - now > 0 && pumpAt - now <= pauseNs) {
            return;
        }
        pumpAt = now + pauseNs;
        client.tasks().schedule(this::pump, pauseNs, TimeUnit.NANOSECONDS);
    }

    /** The stream is gone. The lock is held. */
    private void lost(Link gone, Status status) {
        if (link != gone) {
            return;
        }
        link = null;
        long now = System.nanoTime();
        failure = MqException.of(MqException.Kind.UNREACHABLE, gone.broker + ": " + status.getDescription());
        outbox.lost(failure.getMessage(), now);
        if (MqException.isFinal(status)) {
            outbox.giveUp(message -> true, MqException.refused(status));
        }
        boolean moves = true;
        if (client.brokers().size() > 1 && outbox.isBound()) {
            lostAt = lostAt == 0 ? now : lostAt;
            moves = now - lostAt >= options.failoverAfterNs;
            if (moves) {
                outbox.unbind(failure.getMessage());
            }
        }
        if (moves) {
            lostAt = 0;
            broker = (broker + 1) % client.brokers().size();
        }
        if (!ended) {
            isPausing = true;
            client.tasks().schedule(
                    () -> {
                        lock.lock();
                        isPausing = false;
                        unlock();
                        pump();
                    },
                    pauses.nextMs(),
                    TimeUnit.MILLISECONDS);
        }
    }

    /** Gives up what took too long. */
    private void expire() {
        lock.lock();
        try {
            long now = System.nanoTime();
            MqException why = outbox.delaying != null ? outbox.delaying : failure;
            if (why == null) {
                why = MqException.of(MqException.Kind.UNREACHABLE, "no broker could be reached in time");
            }
            boolean wasSent = outbox.giveUp(message -> message.deadline - now <= 0, why);
            if (wasSent && link != null) {
                // A broker that does not answer for so long may never.
                Link silent = link;
                silent.end();
                lost(silent, Status.UNAVAILABLE.withDescription("did not answer in time"));
            }
            if (pending == 0 && expiry != null) {
                expiry.cancel(false);
                expiry = null;
            }
        } finally {
            unlock();
        }
    }

    /** Messages without a result. */
    int pending() {
        lock.lock();
        try {
            return pending;
        } finally {
            unlock();
        }
    }

    /** One stream. */
    private final class Link implements ClientResponseObserver<PublishStreamRequest, PublishStreamResponse> {
        private final String broker;
        private ClientCallStreamObserver<PublishStreamRequest> requests;
        private boolean isOpened;

        Link(String broker) {
            this.broker = broker;
        }

        void open() {
            PublishServiceGrpc.newStub(client.fresh(broker)).publishStream(this);
            client.tasks().schedule(this::giveUpOpening, MqClient.OPEN_TIMEOUT_MS, TimeUnit.MILLISECONDS);
        }

        private void giveUpOpening() {
            lock.lock();
            try {
                if (!isOpened) {
                    end();
                    lost(this, Status.UNAVAILABLE.withDescription("no stream was opened in time"));
                }
            } finally {
                unlock();
            }
        }

        /** Ends it without waiting. */
        void end() {
            if (requests != null) {
                requests.cancel("the publisher ends the stream", null);
            }
        }

        @Override
        public void beforeStart(ClientCallStreamObserver<PublishStreamRequest> stream) {
            requests = stream;
        }

        @Override
        public void onNext(PublishStreamResponse response) {
            lock.lock();
            try {
                if (link != this) {
                    return;
                }
                if (response.hasWindow()) {
                    isOpened = true;
                    lostAt = 0;
                    failure = null;
                    pauses.reset();
                    outbox.opened(response.getWindow());
                } else {
                    long now = System.nanoTime();
                    response.getResults().getResultsList().forEach(result -> outbox.answered(result, now));
                }
                pumpSoon();
            } catch (RejectedExecutionException error) {
                // The client is closed.
            } finally {
                unlock();
            }
        }

        @Override
        public void onError(Throwable error) {
            gone(Status.fromThrowable(error));
        }

        @Override
        public void onCompleted() {
            gone(Status.UNAVAILABLE.withDescription("the broker ended the stream"));
        }

        private void gone(Status status) {
            lock.lock();
            try {
                lost(this, status);
            } catch (RejectedExecutionException closed) {
                // The client is closed.
            } finally {
                unlock();
            }
        }
    }
}
