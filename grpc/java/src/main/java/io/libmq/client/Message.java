package io.libmq.client;

import com.google.protobuf.ByteString;
import io.libmq.v1.Header;
import io.libmq.v1.OutgoingMessage;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/** A message to be published. Immutable: each `with` returns another one. */
public final class Message {
    private final OutgoingMessage outgoing;

    private Message(OutgoingMessage outgoing) {
        this.outgoing = outgoing;
    }

    /** A message with a copy of these bytes, of which there is at least one. */
    public static Message of(byte[] body) {
        return new Message(OutgoingMessage.newBuilder().setBody(ByteString.copyFrom(body)).build());
    }

    /** A message with a text as UTF-8. */
    public static Message of(String body) {
        return of(body.getBytes(StandardCharsets.UTF_8));
    }

    /** Adds a header: a name of 1 to 255 bytes, and a copy of a value. */
    public Message withHeader(String name, byte[] value) {
        Header header = Header.newBuilder().setName(name).setValue(ByteString.copyFrom(value)).build();
        return new Message(outgoing.toBuilder().addHeaders(header).build());
    }

    /**
     * Names the message within the topic: what has the same id as a message before it, within the topic's
     * window of deduplication, is not stored again. At most 255 bytes. Without one the publisher makes one.
     */
    public Message withId(String id) {
        return new Message(outgoing.toBuilder().setDedupId(id).build());
    }

    /** Has the message delivered no earlier than this long after the publish. */
    public Message withDelay(Duration delay) {
        if (delay.isNegative()) {
            throw new IllegalArgumentException("a delay of " + delay + ": it must not be negative");
        }
        long delayMs = delay.toMillis();
        return new Message(outgoing.toBuilder()
                .setDelayMs(delay.compareTo(Duration.ofMillis(delayMs)) > 0 ? delayMs + 1 : delayMs)
                .build());
    }

    OutgoingMessage outgoing() {
        return outgoing;
    }

    /** Bytes that count in a batch. */
    static int bytes(OutgoingMessage message) {
        int bytes = message.getBody().size();
        for (Header header : message.getHeadersList()) {
            bytes += header.getNameBytes().size() + header.getValue().size();
        }
        return bytes;
    }
}
