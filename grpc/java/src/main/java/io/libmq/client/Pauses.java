package io.libmq.client;

import java.util.concurrent.ThreadLocalRandom;

/**
 * Pauses that double from one to the next, with some chance in each: those who failed together come back
 * apart.
 */
final class Pauses {
    private static final long FIRST_MS = 50, LONGEST_MS = 5000;

    private int failures;

    /** Begins anew: an attempt succeeded. */
    void reset() {
        failures = 0;
    }

    /** The pause after a failure. */
    long nextMs() {
        long pause = Math.min(FIRST_MS << Math.min(failures++, 16), LONGEST_MS);
        return pause / 2 + ThreadLocalRandom.current().nextLong(pause / 2 + 1);
    }
}
