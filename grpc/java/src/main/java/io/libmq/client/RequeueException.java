package io.libmq.client;

import java.time.Duration;

/** Thrown by a handler: has the message delivered again after a delay. */
public final class RequeueException extends Exception {
    private static final long serialVersionUID = 1;
    private final Duration delay;

    /** Delivers it again after `delay`, because of `cause`, which may be null. */
    public RequeueException(Duration delay, Throwable cause) {
        super("to be delivered again after " + delay, cause);
        this.delay = delay;
    }

    /** The delay. */
    public Duration delay() {
        return delay;
    }
}
