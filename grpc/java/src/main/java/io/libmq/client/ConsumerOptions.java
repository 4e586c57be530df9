package io.libmq.client;

import io.libmq.v1.StartPosition;
import java.time.Duration;
import java.util.function.Function;

/** Settings of a consumer. Each has a default. */
public final class ConsumerOptions {
    int concurrency = 16;
    int maxInFlight = 1000;
    long maxInFlightBytes = 16 << 20;
    long messageTimeoutMs;
    Function<Delivery, Duration> retryDelay = ConsumerOptions::defaultDelay;
    StartPosition start;
    int sampleRate;
    String name = "";
    long maxMessageBytes;

    private static Duration defaultDelay(Delivery message) {
        return Duration.ofMillis(Math.min(500L << Math.min(Math.max(message.attempts() - 1, 0), 16), 60_000));
    }

    /** Sets how many messages are at work at the same time: 16 by default. */
    public ConsumerOptions concurrency(int value) {
        concurrency = (int) PublisherOptions.positive(value);
        return this;
    }

    /**
     * Bounds the messages that are at work or wait for that in this process, and the bytes of their bodies
     * from each broker: 1,000 and 16 MiB by default. How many do follows from how long the handler takes: as
     * many as are worked on within 100 ms. If it gets slower those that wait are given back.
     */
    public ConsumerOptions maxInFlight(int messages, long bytes) {
        maxInFlight = (int) PublisherOptions.positive(messages);
        maxInFlightBytes = PublisherOptions.positive(bytes);
        return this;
    }

    /**
     * Sets how long a message may be in flight without a sign of life; those that wait or are at work are
     * extended by it. By default the broker's (--msg-timeout). What takes longer than the broker allows in
     * all is delivered again.
     */
    public ConsumerOptions messageTimeout(Duration value) {
        messageTimeoutMs = PublisherOptions.positive(value.toMillis());
        return this;
    }

    /**
     * Sets how long a message whose handler failed is not delivered again. By default half a second, doubled
     * with each attempt up to a minute.
     */
    public ConsumerOptions retryDelay(Function<Delivery, Duration> value) {
        retryDelay = value;
        return this;
    }

    /**
     * Says where the channel starts if it is created now; by default at what no channel has been given yet.
     */
    public ConsumerOptions start(StartPosition value) {
        start = value;
        return this;
    }

    /** Sets the percentage of the messages to be delivered, 1 to 99; by default all are. */
    public ConsumerOptions sampleRate(int value) {
        sampleRate = value;
        return this;
    }

    /** Names the consumer in statistics and the broker's log. */
    public ConsumerOptions name(String value) {
        name = value;
        return this;
    }

    /** Bounds the messages that are delivered here, body and headers; by default any are. */
    public ConsumerOptions maxMessageBytes(long value) {
        maxMessageBytes = PublisherOptions.positive(value);
        return this;
    }
}
