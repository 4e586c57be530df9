package io.libmq.client;

import java.time.Duration;

/** Settings of a publisher. Each has a default; those that are set must be positive. */
public final class PublisherOptions {
    long maxPendingBytes = 32 << 20;
    int maxBatchMessages = 1000;
    int maxBatchBytes = 256 << 10;
    long lingerNs = Duration.ofMillis(5).toNanos();
    long timeoutNs = Duration.ofSeconds(30).toNanos();
    long dedupWindowNs = Duration.ofMinutes(2).toNanos();
    long failoverAfterNs = Duration.ofSeconds(5).toNanos();
    boolean atLeastOnce;
    boolean withoutIds;

    /**
     * Bounds the bytes of messages that have no result yet, some 256 for each message included: who wants to
     * publish more waits. 32 MiB by default. A message that is larger is taken when there is no other.
     */
    public PublisherOptions maxPendingBytes(long value) {
        maxPendingBytes = positive(value);
        return this;
    }

    /** Says when a batch is full: 1,000 messages and 256 KiB by default. */
    public PublisherOptions maxBatch(int messages, int bytes) {
        maxBatchMessages = (int) positive(messages);
        maxBatchBytes = (int) positive(bytes);
        return this;
    }

    /**
     * Bounds how long a message waits for others while a batch of its topic before it has no answer: 5 ms by
     * default. Where there is no such batch it is sent at once.
     */
    public PublisherOptions linger(Duration value) {
        lingerNs = positive(value.toNanos());
        return this;
    }

    /** Sets the longest time for a message, reconnects included: 30 s by default. */
    public PublisherOptions timeout(Duration value) {
        timeoutNs = positive(value.toNanos());
        return this;
    }

    /**
     * Bounds how long after it was first sent a message may be sent again: at most the topics' window of
     * deduplication, and by default the broker's, 2 minutes.
     */
    public PublisherOptions dedupWindow(Duration value) {
        dedupWindowNs = positive(value.toNanos());
        return this;
    }

    /**
     * Bounds how long a publisher tries to reach the broker again that has not answered what was sent to it,
     * before it gives that up as UNKNOWN and goes to the next: another broker does not have the ids. 5 s by
     * default.
     */
    public PublisherOptions failoverAfter(Duration value) {
        failoverAfterNs = positive(value.toNanos());
        return this;
    }

    /**
     * Sends what has no answer again in any case: to another broker, without an id, outside of the window. It
     * may be stored twice.
     */
    public PublisherOptions atLeastOnce() {
        atLeastOnce = true;
        return this;
    }

    /** Gives no ids to messages that have none. Without an answer they end as UNKNOWN. */
    public PublisherOptions withoutIds() {
        withoutIds = true;
        return this;
    }

    static long positive(long value) {
        if (value <= 0) {
            throw new IllegalArgumentException(value + " must be positive");
        }
        return value;
    }
}
