package io.libmq.client;

import io.libmq.v1.Header;
import io.libmq.v1.ReceivedMessage;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.List;
import java.util.Optional;

/** A message that is delivered. */
public final class Delivery {
    private final ReceivedMessage message;
    private final String broker;

    Delivery(ReceivedMessage message, String broker) {
        this.message = message;
        this.broker = broker;
    }

    /** A copy of what was published. */
    public byte[] body() {
        return message.getBody().toByteArray();
    }

    /** The body as a text in UTF-8. */
    public String text() {
        return message.getBody().toString(StandardCharsets.UTF_8);
    }

    /** Headers in the order they were published in. */
    public List<Header> headers() {
        return message.getHeadersList();
    }

    /** The value of the first header of that name. */
    public Optional<byte[]> header(String name) {
        return headers().stream()
                .filter(header -> header.getName().equals(name))
                .findFirst()
                .map(header -> header.getValue().toByteArray());
    }

    /** The broker's name for the message; to be read as unsigned. */
    public long id() {
        return message.getId();
    }

    /** The message's place in the topic. */
    public long offset() {
        return message.getOffset();
    }

    /** The time it was published at, by the broker's clock. */
    public Instant timestamp() {
        long ns = message.getTimestampNs();
        return Instant.ofEpochSecond(ns / 1_000_000_000, ns % 1_000_000_000);
    }

    /** The number of deliveries to this channel, this one included. */
    public int attempts() {
        return message.getAttempts();
    }

    /** The address of the broker it comes from. */
    public String broker() {
        return broker;
    }
}
