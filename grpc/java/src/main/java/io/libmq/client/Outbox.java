package io.libmq.client;

import io.grpc.Status;
import io.libmq.client.Pending.Batch;
import io.libmq.client.Pending.Queue;
import io.libmq.v1.Failure;
import io.libmq.v1.OffsetRange;
import io.libmq.v1.PublishResult;
import io.libmq.v1.PublishWindow;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Predicate;

/**
 * Messages that a publisher has to send or has sent: makes the batches, and decides on them. Guarded by its
 * lock.
 */
final class Outbox {
    /** Gives a message its result. */
    interface Settler {
        void settle(Pending message, Receipt receipt, MqException error);
    }

    private final PublisherOptions options;
    private final Settler settler;
    private final Map<String, Queue> topics = new HashMap<>();
    /** Topics with messages that wait, the one whose turn it is first. */
    private final ArrayDeque<Queue> turns = new ArrayDeque<>();
    /** Batches to be sent again, by number. */
    private final TreeMap<Long, Batch> again = new TreeMap<>();
    /** Batches sent over the stream there is, by number. */
    private final TreeMap<Long, Batch> sent = new TreeMap<>();

    private PublishWindow window = PublishWindow.getDefaultInstance();
    private int sentMessages, sentBytes;
    private long batches;

    /** Time for which there is nothing to send for certain, after {@link #next} has returned null. */
    long pauseNs;
    /** The reason for which the broker takes nothing more; null: it does. */
    MqException leaving;
    /** The reason for which a topic has to wait; null: none has. */
    MqException delaying;

    Outbox(PublisherOptions options, Settler settler) {
        this.options = options;
        this.settler = settler;
    }

    /** A stream begins. */
    void opened(PublishWindow value) {
        window = value;
        leaving = null;
        delaying = null;
    }

    int sent() {
        return sent.size();
    }

    /** Adds a message. Returns whether it is time to look for a batch. */
    boolean add(String topic, Pending message, long now) {
        Queue queue = topics.computeIfAbsent(topic, Queue::new);
        boolean wasFull = isFull(queue);
        queue.waiting.add(message);
        queue.bytes += message.bytes;
        if (!queue.isInTurns) {
            queue.isInTurns = true;
            queue.since = now;
            turns.add(queue);
            return true;
        }
        return !wasFull && isFull(queue);
    }

    private boolean isFull(Queue queue) {
        return queue.waiting.size() >= options.maxBatchMessages || queue.bytes >= options.maxBatchBytes;
    }

    private boolean fits(int messages, int bytes) {
        return sent.isEmpty()
                || sent.size() < window.getBatches()
                        && sentMessages + messages <= window.getMessages()
                        && sentBytes + bytes <= window.getBytes();
    }

    /** The next batch to be sent now, which counts as sent; null if there is none. */
    Batch next(String broker, long now, boolean isUrgent) {
        Batch batch = find(now, isUrgent);
        if (batch == null) {
            return null;
        }
        batch.broker = broker;
        batch.sentMessages = batch.messages.size();
        batch.sentBytes = batch.bytes;
        sentMessages += batch.sentMessages;
        sentBytes += batch.sentBytes;
        sent.put(batch.number, batch);
        for (Pending message : batch.messages) {
            if (message.firstSent == 0) {
                message.firstSent = now;
            }
        }
        return batch;
    }

    private Batch find(long now, boolean isUrgent) {
        pauseNs = Long.MAX_VALUE;
        for (Iterator<Batch> each = again.values().iterator(); each.hasNext(); ) {
            Batch batch = each.next();
            if (waits(batch.queue, now)) {
                continue;
            }
            if (!batch.keep()) {
                each.remove();
                forget(batch);
                continue;
            }
            if (!fits(batch.messages.size(), batch.bytes)) {
                return null;
            }
            each.remove();
            return batch;
        }
        for (int left = turns.size(); left > 0; left--) {
            Queue queue = turns.poll();
            Batch batch = null;
            boolean isReady = !waits(queue, now);
            if (isReady && queue.unanswered > 0 && !isUrgent && !isFull(queue)) {
                long wait = queue.since + options.lingerNs - now;
                isReady = wait <= 0;
                pauseNs = isReady ? pauseNs : Math.min(pauseNs, wait);
            }
            int before = queue.waiting.size();
            if (isReady) {
                batch = form(queue);
                queue.since = now;
            }
            if (queue.waiting.isEmpty()) {
                queue.isInTurns = false;
                dropIfIdle(queue);
            } else {
                turns.add(queue);
            }
            if (batch != null) {
                return batch;
            }
            if (isReady && before > 0 && !queue.waiting.isEmpty()) {
                // The window has no room.
                return null;
            }
        }
        return null;
    }

    private boolean waits(Queue queue, long now) {
        if (queue.notBefore == 0 || queue.notBefore - now <= 0) {
            queue.notBefore = 0;
            return false;
        }
        pauseNs = Math.min(pauseNs, queue.notBefore - now);
        return true;
    }

    /** A batch of what waits, as far as the window has room; null if there is none. */
    private Batch form(Queue queue) {
        Batch batch = new Batch(batches + 1, queue);
        long largest = options.maxBatchBytes;
        if (window.getMaxBatchBytes() > 0) {
            largest = Math.min(largest, window.getMaxBatchBytes());
        }
        for (Pending message; (message = queue.waiting.peek()) != null; ) {
            MqException wrong = message.isSettled ? null : check(message);
            if (wrong == null && !message.isSettled) {
                int count = batch.messages.size(), bytes = batch.bytes + message.bytes;
                boolean isFull = count == options.maxBatchMessages || count > 0 && bytes > largest;
                if (isFull || !fits(count + 1, bytes)) {
                    break;
                }
                message.isBatched = true;
                batch.add(message);
            }
            queue.waiting.remove();
            queue.bytes -= message.bytes;
            if (wrong != null) {
                settler.settle(message, null, wrong);
            }
        }
        if (batch.messages.isEmpty()) {
            return null;
        }
        batches++;
        queue.unanswered++;
        return batch;
    }

    /** The refusal that the broker would answer, or null: some of what it refuses ends a stream. */
    private MqException check(Pending pending) {
        int body = pending.message.getBody().size();
        if (window.getMaxMessageBytes() > 0 && body > window.getMaxMessageBytes()) {
            String text = "has " + body + " bytes: at most " + window.getMaxMessageBytes() + " (--max-msg-size)";
            return MqException.invalid("body", text);
        }
        if (window.getMaxBatchBytes() > 0 && pending.bytes > window.getMaxBatchBytes()) {
            String text = "has " + pending.bytes + " bytes with its headers: at most " + window.getMaxBatchBytes();
            return MqException.invalid("body", text + " (--max-body-size)");
        }
        long delayMs = pending.message.getDelayMs();
        if (window.getMaxDelayMs() > 0 && Long.compareUnsigned(delayMs, window.getMaxDelayMs()) > 0) {
            String text = "is " + delayMs + ": at most " + window.getMaxDelayMs() + " (--max-req-timeout)";
            return MqException.invalid("delay_ms", text);
        }
        return null;
    }

    private void forget(Batch batch) {
        batch.queue.unanswered--;
        dropIfIdle(batch.queue);
    }

    private void dropIfIdle(Queue queue) {
        if (queue.unanswered == 0 && queue.waiting.isEmpty() && !queue.isInTurns) {
            topics.remove(queue.topic);
        }
    }

    /** Takes in what the broker says of a batch. */
    void answered(PublishResult result, long now) {
        Batch batch = sent.remove(result.getCorrelation());
        if (batch == null) {
            return;
        }
        sentMessages -= batch.sentMessages;
        sentBytes -= batch.sentBytes;
        switch (result.getResultCase()) {
            case STORED:
                Iterator<Pending> each = batch.messages.iterator();
                for (OffsetRange offsets : result.getStored().getOffsetsList()) {
                    for (int at = 0; at < offsets.getCount() && each.hasNext(); at++) {
                        settler.settle(each.next(), new Receipt(offsets.getFirst() + at, offsets.getDuplicate()), null);
                    }
                }
                forget(batch);
                break;
            case FAILURE:
                refused(batch, result.getFailure(), now);
                break;
            default:
                // Something that a later version says.
                fail(batch, MqException.unknown("the broker's answer is not understood"));
        }
    }

    private void refused(Batch batch, Failure failure, long now) {
        batch.messages.forEach(message -> message.firstSent = 0);
        batch.broker = null;
        MqException why = MqException.refused(failure, failure.getField().replaceFirst("^messages\\[0]\\.", ""));
        if (why.code() == Status.Code.UNAVAILABLE && why.retryAfter().isZero()) {
            // It stops, or is drained: the next broker may take it.
            leaving = why;
            repeat(batch);
        } else if (!why.retryAfter().isZero()) {
            delaying = why;
            batch.queue.notBefore = now + why.retryAfter().toNanos();
            repeat(batch);
        } else if (why.code() == Status.Code.INVALID_ARGUMENT
                && !failure.getField().equals("topic")
                && batch.messages.size() > 1) {
            split(batch);
        } else {
            fail(batch, why);
        }
    }

    /** One of them is no reason to refuse the others: each half for itself, down to that one. */
    private void split(Batch batch) {
        if (!batch.keep()) {
            forget(batch);
            return;
        }
        int half = (batch.messages.size() + 1) / 2;
        Batch other = new Batch(++batches, batch.queue);
        other.messages = new ArrayList<>(batch.messages.subList(half, batch.messages.size()));
        batch.messages = new ArrayList<>(batch.messages.subList(0, half));
        batch.queue.unanswered++;
        repeat(batch);
        repeat(other);
    }

    private void repeat(Batch batch) {
        if (batch.keep()) {
            again.put(batch.number, batch);
        } else {
            forget(batch);
        }
    }

    private void fail(Batch batch, MqException error) {
        batch.messages.forEach(message -> settler.settle(message, null, error));
        forget(batch);
    }

    /** The stream is gone: what may have been stored is kept only if it can be sent again. */
    void lost(String why, long now) {
        List<Batch> left = new ArrayList<>(sent.values());
        sent.clear();
        sentMessages = 0;
        sentBytes = 0;
        window = PublishWindow.getDefaultInstance();
        for (Batch batch : left) {
            for (Pending message : batch.messages) {
                boolean isSafe = !message.message.getDedupId().isEmpty()
                        && now - message.firstSent < options.dedupWindowNs;
                if (!isSafe && !options.atLeastOnce) {
                    settler.settle(message, null, MqException.unknown(why));
                }
            }
            repeat(batch);
        }
        topics.values().forEach(queue -> queue.notBefore = 0);
    }

    /** Whether something is to be sent to its broker again, and to no other. */
    boolean isBound() {
        return !options.atLeastOnce && again.values().stream().anyMatch(batch -> batch.broker != null);
    }

    /** Gives up what is bound to a broker. */
    void unbind(String why) {
        for (Batch batch : again.values()) {
            if (batch.broker != null) {
                batch.messages.forEach(message -> settler.settle(message, null, MqException.unknown(why)));
            }
        }
    }

    /** Settles messages for which `isOver`. Returns whether any of them was sent over the stream there is. */
    boolean giveUp(Predicate<Pending> isOver, MqException error) {
        for (Queue queue : turns) {
            queue.waiting.stream().filter(isOver).forEach(message -> settler.settle(message, null, error));
        }
        again.values().forEach(batch -> giveUp(batch, isOver, error));
        boolean wasSent = false;
        for (Batch batch : sent.values()) {
            wasSent |= giveUp(batch, isOver, error);
        }
        return wasSent;
    }

    private boolean giveUp(Batch batch, Predicate<Pending> isOver, MqException error) {
        boolean any = false;
        for (Pending message : batch.messages) {
            if (!message.isSettled && isOver.test(message)) {
                any = true;
                boolean isUnknown = message.firstSent != 0;
                settler.settle(message, null, isUnknown ? MqException.unknown(error.getMessage()) : error);
            }
        }
        return any;
    }
}
