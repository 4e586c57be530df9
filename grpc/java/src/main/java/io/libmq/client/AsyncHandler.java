package io.libmq.client;

import java.util.concurrent.CompletionStage;

/** Works on a message as {@link Handler} does, and returns before that is done. */
@FunctionalInterface
public interface AsyncHandler {
    /** Begins to work on a message. What is returned ends with the work. */
    CompletionStage<?> handle(Delivery message);
}
