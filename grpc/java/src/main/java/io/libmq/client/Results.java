package io.libmq.client;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;

/**
 * Results of a publisher on their way to those who wait for them: threads are woken at once, and what depends
 * on a future runs on a thread of the client's. Guarded by the publisher's lock, but for {@link Passing}.
 */
final class Results {
    private final Executor dependents;
    private List<Pending> awaited = new ArrayList<>();
    private List<Pending> futures = new ArrayList<>();
    /** Messages whose result was not passed on, by the flush that waits for them. */
    private final TreeMap<Long, Integer> rounds = new TreeMap<>();

    Results(Executor dependents) {
        this.dependents = dependents;
    }

    /** Counts a message whose result is to come. */
    void expect(Pending message) {
        rounds.merge(message.round, 1, Integer::sum);
    }

    /** Takes a message in that has its result. */
    void add(Pending message) {
        if (message.waiter != null) {
            awaited.add(message);
            passed(message);
        } else {
            futures.add(message);
        }
    }

    /** Whether all results of a round, and of those before it, were passed on. */
    boolean isOver(long round) {
        return rounds.isEmpty() || rounds.firstKey() > round;
    }

    private void passed(Pending message) {
        rounds.merge(message.round, -1, (left, less) -> left + less == 0 ? null : left + less);
    }

    /** What was taken in since the last call; null: nothing. */
    Passing take() {
        if (awaited.isEmpty() && futures.isEmpty()) {
            return null;
        }
        Passing passing = new Passing(awaited, futures);
        awaited = new ArrayList<>();
        futures = new ArrayList<>();
        return passing;
    }

    /** Results to be passed on once the lock is given up. */
    final class Passing {
        private final List<Pending> awaited, futures;

        private Passing(List<Pending> awaited, List<Pending> futures) {
            this.awaited = awaited;
            this.futures = futures;
        }

        /** Passes them on, and then calls {@code then}, behind what depends on them. */
        void run(Runnable then) {
            awaited.forEach(Pending::complete);
            if (futures.isEmpty()) {
                then.run();
                return;
            }
            Runnable completing = () -> {
                futures.forEach(Pending::complete);
                then.run();
            };
            try {
                dependents.execute(completing);
            } catch (RejectedExecutionException closed) {
                completing.run();
            }
        }

        /** Ends the wait of flushes for them. The lock is held. */
        void end() {
            futures.forEach(Results.this::passed);
        }
    }
}
