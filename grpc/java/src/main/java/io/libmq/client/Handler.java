package io.libmq.client;

/**
 * Works on a message. If it returns the message is finished, and not delivered again; if it throws the
 * message is delivered again, after {@link ConsumerOptions#retryDelay} or as {@link RequeueException} says.
 *
 * <p>A message can come more than once: where the consumer ended, or lost its broker, before the finish was
 * stored, and there are other consumers. A consumer does not call its handler again for a message that it has
 * finished, or that is at work still.
 */
@FunctionalInterface
public interface Handler {
    /** Works on a message. Its thread is interrupted when a close does not wait any longer. */
    void handle(Delivery message) throws Exception;
}
