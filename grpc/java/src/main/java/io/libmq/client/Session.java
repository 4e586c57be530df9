package io.libmq.client;

import com.google.protobuf.ByteString;
import io.libmq.client.Consumer.Key;
import io.libmq.client.Consumer.Run;
import io.libmq.v1.AckFailure;
import io.libmq.v1.AckKind;
import io.libmq.v1.SubscribeOpened;
import io.libmq.v1.SubscribeRequeue;
import io.libmq.v1.SubscribeUpdate;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Deliveries in flight on a stream, and updates to be sent over it. Guarded by the consumer's lock. */
final class Session {
    /**
     * Parts of the message timeout: the age at which a delivery is extended, and the interval of searches for
     * such.
     */
    private static final int TOUCH_AFTER = 3, TOUCH_EVERY = 6;
    /** Least time between two requests for a confirmation. */
    private static final long CONFIRM_EVERY_NS = Duration.ofMillis(50).toNanos();
    /** Interval in which the credit follows handlers that have not returned. */
    private static final long CREDIT_EVERY_NS = Duration.ofSeconds(1).toNanos();
    /** Finishes that are remembered until they are confirmed. */
    private static final int REMEMBERED = 100_000;

    final Feed feed;
    private final Consumer consumer;
    private final SubscribeOpened opened;
    /** In flight, by their tokens. */
    final Map<ByteString, Run> deliveries = new HashMap<>();

    private final List<ByteString> finishes = new ArrayList<>(), releases = new ArrayList<>();
    private final List<ByteString> touches = new ArrayList<>();
    private final Map<Long, List<ByteString>> requeues = new HashMap<>();
    private int credit;
    /**
     * Finished since the last request for a confirmation, and before it: what is not confirmed may come
     * again.
     */
    private Map<ByteString, Key> finished = new HashMap<>(), asked = new HashMap<>();
    /** Acknowledgements were sent since the last request for a confirmation. */
    private boolean isUnasked;

    private long askedAt = System.nanoTime() - CONFIRM_EVERY_NS;
    /** Numbers of confirmations: the last asked for, and the last that came. */
    private long number, confirmed;
    /**
     * Number of the confirmation behind which nothing more comes, as the broker has no more credit; 0: not
     * asked.
     */
    private long drained;
    /** Time for which there is nothing to send for certain, after {@link #update} has returned null. */
    long pauseNs;

    Session(Feed feed, SubscribeOpened opened) {
        this.feed = feed;
        this.opened = opened;
        consumer = feed.consumer;
    }

    private long timeoutMs() {
        return Math.max(opened.getMsgTimeoutMs(), 1);
    }

    long touchEveryMs() {
        return Math.max(timeoutMs() / TOUCH_EVERY, 1);
    }

    void finish(ByteString token, Key key) {
        if (finished.size() < REMEMBERED) {
            finished.put(token, key);
        }
        finishes.add(token);
        feed.look();
    }

    void release(ByteString token) {
        releases.add(token);
        feed.look();
    }

    void requeue(ByteString token, Duration delay) {
        long delayMs = Math.min(Math.max(delay.toMillis(), 0), opened.getMaxDelayMs());
        requeues.computeIfAbsent(delayMs, key -> new ArrayList<>()).add(token);
        feed.look();
    }

    /** Extends what is in flight for a while. */
    void touch(long now) {
        long oldNs = Duration.ofMillis(timeoutMs()).toNanos() / TOUCH_AFTER;
        deliveries.forEach((token, run) -> {
            if (now - run.since > oldNs) {
                run.since = now;
                touches.add(token);
            }
        });
        feed.look();
    }

    private boolean hasAcks() {
        return !finishes.isEmpty() || !releases.isEmpty() || !requeues.isEmpty();
    }

    /** The update to be sent now, or null. */
    SubscribeUpdate update(long now) {
        SubscribeUpdate.Builder update = SubscribeUpdate.newBuilder();
        boolean isLeaving = consumer.isClosing();
        boolean anyWaits = consumer.trim(now);
        int wanted = Math.min(consumer.credit(now), opened.getMaxCreditMessages());
        // Small changes are not worth a message.
        boolean any = Math.abs(wanted - credit) > credit / 4 || wanted == 0 && credit > 0;
        if (any) {
            credit = wanted;
            update.getCreditBuilder().setMessages(wanted);
        }
        isUnasked |= hasAcks();
        any |= hasAcks() || !touches.isEmpty();
        update.addAllFinish(finishes).addAllRelease(releases).addAllTouch(touches);
        requeues.forEach((delayMs, tokens) -> update.addRequeue(
                SubscribeRequeue.newBuilder().setDelayMs(delayMs).addAllTokens(tokens)));
        finishes.clear();
        releases.clear();
        touches.clear();
        requeues.clear();
        pauseNs = anyWaits ? CREDIT_EVERY_NS : Long.MAX_VALUE;
        boolean isFirst = isLeaving && drained == 0;
        if ((isUnasked || isFirst) && confirmed == number) {
            long due = askedAt + CONFIRM_EVERY_NS - now;
            if (!isLeaving && due > 0) {
                pauseNs = Math.min(pauseNs, due);
            } else {
                any = true;
                isUnasked = false;
                askedAt = now;
                asked = finished;
                finished = new HashMap<>();
                update.setConfirm(++number);
                drained = isFirst ? number : drained;
            }
        }
        return any ? update.build() : null;
    }

    /**
     * Whether the stream can end without anything lost: nothing is in flight or to come, and all is
     * confirmed.
     */
    boolean isDone() {
        return drained > 0 && confirmed == number && !isUnasked && deliveries.isEmpty() && !hasAcks();
    }

    void confirmed(long value) {
        confirmed = value;
        asked = new HashMap<>();
    }

    /** An acknowledgement changed nothing. */
    void failed(AckFailure failure) {
        Run run = deliveries.get(failure.getToken());
        if (run != null) {
            consumer.lost(run);
        }
        if (failure.getKind() == AckKind.ACK_KIND_FINISH) {
            // It was done, and comes again.
            Key key = asked.remove(failure.getToken());
            key = key == null ? finished.remove(failure.getToken()) : key;
            if (key != null) {
                consumer.again(key);
            }
        }
    }

    /** The stream is gone. */
    void end() {
        long now = System.nanoTime();
        asked.values().forEach(key -> consumer.remember(key, now));
        finished.values().forEach(key -> consumer.remember(key, now));
        List.copyOf(deliveries.values()).forEach(consumer::lost);
    }
}
