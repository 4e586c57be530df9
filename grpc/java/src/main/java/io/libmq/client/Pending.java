package io.libmq.client;

import io.libmq.v1.OutgoingMessage;
import io.libmq.v1.PublishStreamRequest;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.locks.LockSupport;

/** A message without a result. */
final class Pending {
    /** Memory that counts for a message beside its bytes. */
    static final int OVERHEAD = 256;

    final OutgoingMessage message;
    final int bytes;
    final long deadline;
    /** Number of the flush that waits for it. */
    final long round;
    /** The thread that waits for the result; null: the future has it. */
    final Thread waiter;

    final CompletableFuture<Receipt> future;
    /** Whether it is part of a batch. */
    boolean isBatched;
    /** The time when it was first sent; 0 if it was not, or is not stored for certain. */
    long firstSent;

    boolean isSettled;
    private Receipt receipt;
    private MqException error;
    private volatile boolean isComplete;

    Pending(OutgoingMessage message, Thread waiter, int bytes, long deadline, long round) {
        this.message = message;
        this.waiter = waiter;
        future = waiter == null ? new CompletableFuture<>() : null;
        this.bytes = bytes;
        this.deadline = deadline;
        this.round = round;
    }

    void settle(Receipt value, MqException why) {
        isSettled = true;
        receipt = value;
        error = why;
    }

    /** Passes the result on; the lock is not held. */
    void complete() {
        if (waiter != null) {
            isComplete = true;
            LockSupport.unpark(waiter);
        } else if (error == null) {
            future.complete(receipt);
        } else {
            future.completeExceptionally(error);
        }
    }

    /** Waits for the result, on the thread that waits for it. */
    Receipt await() throws InterruptedException {
        while (!isComplete) {
            LockSupport.park(this);
            if (Thread.interrupted()) {
                throw new InterruptedException();
            }
        }
        if (error != null) {
            throw error;
        }
        return receipt;
    }

    /** Messages of one topic that wait to become batches. */
    static final class Queue {
        final String topic;
        final ArrayDeque<Pending> waiting = new ArrayDeque<>();
        int bytes;
        /** The time when the first of them began to wait. */
        long since;
        /** Batches without an answer. */
        int unanswered;
        /** The broker wants nothing more before; 0: it does. */
        long notBefore;

        boolean isInTurns;

        Queue(String topic) {
            this.topic = topic;
        }
    }

    /** Messages that are sent, and answered, as a whole. */
    static final class Batch {
        final long number;
        final Queue queue;
        List<Pending> messages = new ArrayList<>();
        int bytes;
        /** Size as it counts in the window. */
        int sentMessages, sentBytes;
        /**
         * The broker that it was sent to without an answer: only that has its ids. Null if it is not stored
         * for certain.
         */
        String broker;

        Batch(long number, Queue queue) {
            this.number = number;
            this.queue = queue;
        }

        void add(Pending message) {
            messages.add(message);
            bytes += message.bytes;
        }

        /** Drops messages that are settled. Returns whether any is left. */
        boolean keep() {
            messages.removeIf(message -> message.isSettled);
            bytes = messages.stream().mapToInt(message -> message.bytes).sum();
            return !messages.isEmpty();
        }

        PublishStreamRequest request() {
            PublishStreamRequest.Builder request =
                    PublishStreamRequest.newBuilder().setCorrelation(number).setTopic(queue.topic);
            messages.forEach(message -> request.addMessages(message.message));
            return request.build();
        }
    }
}
