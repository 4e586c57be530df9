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
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Publishes single messages over one stream, in batches that it makes itself. Safe for use by many threads.
 *
 * <p>Messages of a topic are stored in the order they were taken in, but for those that had to be sent again.
 */
public final class Publisher implements AutoCloseable {
    private static final long EXPIRY_MS = 100;
    private static final String EMPTY = "a message has at least one byte";

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
    private final Results results;
    private final ArrayDeque<Object> waiters = new ArrayDeque<>();
    /** Ids made so far. */
    private final AtomicLong ids = new AtomicLong();

    private long round, flushing, pendingBytes;
    private int pending, broker;
    /** Nothing more is taken in; and nothing more is sent. */
    private boolean closed, ended;
    /** The stream, or null; then whether one is to be opened later. */
    private Link link;

    private boolean isPausing;
    /** Whether a thread is sending, see {@link #pump}. */
    private boolean isPumping;

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
        results = new Results(client.dependents());
        client.register(end);
    }

    /**
     * Publishes a message and waits until it is stored. Where the thread is interrupted it may be stored too.
     */
    public Receipt publish(String topic, Message message) throws InterruptedException {
        OutgoingMessage outgoing = outgoing(message);
        if (outgoing == null) {
            throw MqException.invalid("body", EMPTY);
        }
        Pending taken = take(topic, outgoing, Thread.currentThread());
        if (taken == null) {
            throw MqException.closed();
        }
        return taken.await();
    }

    /**
     * Takes a message in, and waits for room if too much is without a result. The future ends with an {@link
     * MqException} if the message is not stored; what depends on it runs on a thread of the client's, and must
     * not block: others wait behind it.
     */
    public CompletableFuture<Receipt> send(String topic, Message message) throws InterruptedException {
        OutgoingMessage outgoing = outgoing(message);
        if (outgoing == null) {
            return CompletableFuture.failedFuture(MqException.invalid("body", EMPTY));
        }
        Pending taken = take(topic, outgoing, null);
        return taken == null ? CompletableFuture.failedFuture(MqException.closed()) : taken.future;
    }

    /** The message with an id; null if it has no body. */
    private OutgoingMessage outgoing(Message message) {
        OutgoingMessage outgoing = message.outgoing();
        if (outgoing.getBody().isEmpty()) {
            return null;
        }
        if (!outgoing.getDedupId().isEmpty() || options.withoutIds) {
            return outgoing;
        }
        return outgoing.toBuilder().setDedupId(name + Long.toString(ids.getAndIncrement(), 36)).build();
    }

    /** Takes a message in, and waits for room; null if the publisher is closed. */
    private Pending take(String topic, OutgoingMessage outgoing, Thread waiter) throws InterruptedException {
        int bytes = Message.bytes(outgoing);
        Pending taken;
        boolean isDue;
        lock.lockInterruptibly();
        try {
            await(bytes + Pending.OVERHEAD);
            if (closed) {
                return null;
            }
            if (expiry == null) {
                expiry = client.tasks().scheduleWithFixedDelay(this::expire, EXPIRY_MS, EXPIRY_MS, TimeUnit.MILLISECONDS);
            }
            long now = System.nanoTime();
            taken = new Pending(outgoing, waiter, bytes, now + options.timeoutNs, round);
            pending++;
            pendingBytes += bytes + Pending.OVERHEAD;
            results.expect(taken);
            // Nothing looks at a queue while nothing is pending, not even at one with messages that are
            // settled.
            isDue = outbox.add(topic, taken, now) || pending == 1;
        } catch (RejectedExecutionException error) {
            return null;
        } finally {
            unlock();
        }
        if (isDue) {
            pump();
        }
        return taken;
    }

    /** Waits for room, first come first served. */
    private void await(int size) throws InterruptedException {
        if (waiters.isEmpty() && hasRoom(size)) {
            return;
        }
        Object self = new Object();
        waiters.add(self);
        try {
            while (!closed && (waiters.peek() != self || !hasRoom(size))) {
                changed.await();
            }
        } finally {
            waiters.remove(self);
            if (!waiters.isEmpty()) {
                changed.signalAll();
            }
        }
    }

    private boolean hasRoom(int size) {
        return pendingBytes == 0 || pendingBytes + size <= options.maxPendingBytes;
    }

    /** Waits until everything that was taken in before has a result. Returns whether that came in time. */
    public boolean flush(Duration patience) throws InterruptedException {
        lock.lockInterruptibly();
        long last = round++;
        flushing++;
        unlock();
        pump();
        lock.lock();
        try {
            long left = patience.toNanos();
            while (!results.isOver(last) && left > 0) {
                left = changed.awaitNanos(left);
            }
            return results.isOver(last);
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
        results.add(message);
    }

    /** Gives the lock up, and then passes results on. */
    private void unlock() {
        Results.Passing passing = lock.getHoldCount() == 1 ? results.take() : null;
        lock.unlock();
        if (passing == null) {
            return;
        }
        passing.run(() -> {
            lock.lock();
            passing.end();
            changed.signalAll();
            lock.unlock();
        });
    }

    /**
     * Sends what there is to send. One thread does at a time, so batches are sent in order; what others find
     * meanwhile goes along. The lock is not held.
     */
    private void pump() {
        for (boolean isFirst = true; ; isFirst = false) {
            Link to;
            PublishStreamRequest request;
            boolean opens;
            lock.lock();
            try {
                if (isFirst && isPumping) {
                    return;
                }
                request = next();
                to = link;
                opens = to != null && !to.isBegun;
                if (opens) {
                    to.isBegun = true;
                }
                isPumping = opens || request != null;
            } catch (RejectedExecutionException closed) {
                // The client is closed, and ends the publisher.
                isPumping = false;
                return;
            } finally {
                unlock();
            }
            if (opens) {
                to.open();
            } else if (request == null) {
                return;
            } else {
                to.send(request);
            }
        }
    }

    /**
     * The next batch to be sent; null if there is none. Where a stream is needed it is to be opened. The lock
     * is held.
     */
    private PublishStreamRequest next() {
        if (link == null && pending > 0 && !isPausing && !ended) {
            link = new Link(client.brokers().get(broker));
        }
        if (link == null || !link.isOpened) {
            return null;
        }
        if (outbox.leaving != null) {
            if (outbox.sent() == 0) {
                Link left = link;
                lost(left, Status.UNAVAILABLE.withDescription(outbox.leaving.getMessage()));
                left.end();
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
                lost(silent, Status.UNAVAILABLE.withDescription("did not answer in time"));
                silent.end();
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

    /**
     * One stream. Its answers are taken in on the connection's thread, which also sends what came meanwhile:
     * each further thread would cost as much as a message.
     */
    private final class Link implements ClientResponseObserver<PublishStreamRequest, PublishStreamResponse> {
        private final String broker;
        private volatile ClientCallStreamObserver<PublishStreamRequest> requests;
        /** Whether a thread opens it, or did; whether the broker has; and whether it has an end. */
        private boolean isBegun, isOpened, isEnded;

        Link(String broker) {
            this.broker = broker;
        }

        /** Opens it. The lock is not held: others are needed for it. */
        void open() {
            try {
                PublishServiceGrpc.newStub(client.fresh(broker)).withExecutor(Runnable::run).publishStream(this);
                client.tasks().schedule(this::giveUpOpening, MqClient.OPEN_TIMEOUT_MS, TimeUnit.MILLISECONDS);
            } catch (MqException | RejectedExecutionException closed) {
                finish(MqException.closed());
            } catch (IllegalArgumentException wrong) {
                // The address is none.
                gone(Status.UNAVAILABLE.withDescription(wrong.getMessage()));
            }
            lock.lock();
            if (isEnded) {
                end();
            }
            unlock();
        }

        /** Sends a batch. The lock is not held: publishers need it. */
        void send(PublishStreamRequest request) {
            try {
                requests.onNext(request);
            } catch (IllegalStateException ended) {
                // The stream was ended meanwhile, and what was sent over it is decided on.
            }
        }

        private void giveUpOpening() {
            lock.lock();
            try {
                if (!isOpened) {
                    lost(this, Status.UNAVAILABLE.withDescription("no stream was opened in time"));
                    end();
                }
            } finally {
                unlock();
            }
        }

        /** Ends it without waiting. The lock is held. */
        void end() {
            isEnded = true;
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
            } finally {
                unlock();
            }
            pump();
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
