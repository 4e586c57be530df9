package io.libmq.client;

import io.libmq.v1.ReceivedMessage;
import io.libmq.v1.SubscribeOpen;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Calls a handler for the messages of a channel, from one broker or from all that have the topic, through
 * their restarts. Messages that wait or are at work longer than the message timeout are extended.
 */
public final class Consumer implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger("io.libmq.client");
    /** Work within this time may be here beside what is at work. */
    private static final long MOMENT_NS = Duration.ofMillis(100).toNanos();

    final MqClient client;
    final ConsumerOptions options;
    private final String topic, channel;
    private final Handler handler;
    private final AsyncHandler asyncHandler;
    /** Threads of handlers that block; null for the others. */
    private final ExecutorService workers;
    private final Runnable clientEnds = () -> fail(MqException.closed());
    final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    /** Feeds by the broker's address, those of brokers that are away included. */
    private final Map<String, Feed> feeds = new TreeMap<>();

    private final Discovery discovery;
    /** Deliveries that wait, in order. */
    private final ArrayDeque<Run> waiting = new ArrayDeque<>();
    /** All that wait or are at work. */
    private final Map<Key, Run> runs = new HashMap<>();
    /** Messages that are finished here, but not yet at the broker. */
    private final Memory done = new Memory();

    private int working;
    /** Time that a handler takes, smoothed; and the time when the last message was begun. */
    private long tookNs, begun;

    private boolean closing, ended;
    private MqException error;
    private final CompletableFuture<Void> end = new CompletableFuture<>();

    /** The name of a message. */
    static final class Key {
        private final String broker;
        private final long id, timestampNs;

        Key(String broker, ReceivedMessage message) {
            this.broker = broker;
            id = message.getId();
            timestampNs = message.getTimestampNs();
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Key
                    && ((Key) other).id == id
                    && ((Key) other).timestampNs == timestampNs
                    && ((Key) other).broker.equals(broker);
        }

        @Override
        public int hashCode() {
            return Long.hashCode(id ^ timestampNs);
        }
    }

    /** A delivery that waits or is at work. */
    static final class Run {
        final Key key;
        final Delivery delivery;
        /** The stream on which it is to be acknowledged; null after the delivery was lost. */
        Session session;

        com.google.protobuf.ByteString token;
        /** The time when its timeout began. */
        long since;

        boolean isWorking;

        Run(Key key, Delivery delivery) {
            this.key = key;
            this.delivery = delivery;
        }

        void attach(Session to, com.google.protobuf.ByteString as, long now) {
            lose();
            session = to;
            token = as;
            since = now;
            to.deliveries.put(as, this);
        }

        void lose() {
            if (session != null) {
                session.deliveries.remove(token);
                session = null;
            }
        }
    }

    Consumer(
            MqClient client,
            String topic,
            String channel,
            Handler handler,
            AsyncHandler asyncHandler,
            ConsumerOptions options) {
        this.client = client;
        this.topic = topic;
        this.channel = channel;
        this.handler = handler;
        this.asyncHandler = asyncHandler;
        this.options = options;
        workers = handler == null ? null : workers();
        client.register(clientEnds);
        lock.lock();
        try {
            discovery = client.discovery().isEmpty() ? null : new Discovery(this, topic);
            if (discovery == null) {
                follow(client.brokers());
            }
        } finally {
            lock.unlock();
        }
    }

    private ExecutorService workers() {
        ThreadPoolExecutor pool = new ThreadPoolExecutor(
                options.concurrency, options.concurrency, 10, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), task -> {
                    Thread thread = new Thread(task, "libmq-consumer");
                    thread.setDaemon(true);
                    return thread;
                });
        pool.allowCoreThreadTimeOut(true);
        return pool;
    }

    SubscribeOpen.Builder open() {
        SubscribeOpen.Builder open = SubscribeOpen.newBuilder()
                .setTopic(topic)
                .setChannel(channel)
                .setMsgTimeoutMs(options.messageTimeoutMs)
                .setSampleRate(options.sampleRate)
                .setClientName(options.name)
                .setMaxMessageBytes(options.maxMessageBytes);
        // The first response has the limit; credit for messages is given then.
        open.getCreditBuilder().setMessages(0).setBytes(options.maxInFlightBytes);
        if (options.start != null) {
            open.setStart(options.start);
        }
        return open;
    }

    /** Consumes from these brokers, and no longer from others. The lock is held. */
    void follow(Collection<String> brokers) {
        if (closing) {
            return;
        }
        for (String broker : brokers) {
            feeds.computeIfAbsent(broker, address -> {
                Feed feed = new Feed(this, address);
                feed.open();
                return feed;
            });
        }
        // A stream goes on as long as it stands: a broker that discovery has lost may be there.
        feeds.values().forEach(feed -> feed.isWanted = brokers.contains(feed.broker));
    }

    /**
     * Ends when the consumer has: it was closed, or no broker is left that does not refuse it. Then the
     * future has that refusal, an {@link MqException}.
     */
    public CompletableFuture<Void> ended() {
        return end.copy();
    }

    /** Waits until the consumer has ended, and throws the refusal that {@link #ended} has. */
    public void await() throws InterruptedException {
        try {
            end.get();
        } catch (ExecutionException refused) {
            throw (MqException) refused.getCause();
        }
    }

    /**
     * Begins no more messages, gives back those that wait, which then count as no attempt, and waits until
     * those at work are done and the brokers have stored that. What is not in time is interrupted and
     * delivered again. Returns whether everything was in time.
     */
    public boolean close(Duration patience) throws InterruptedException {
        lock.lockInterruptibly();
        try {
            beginEnd(null);
            endIfDone();
            long left = patience.toNanos();
            while (!ended && left > 0) {
                left = changed.awaitNanos(left);
            }
            return ended;
        } finally {
            abandon();
            lock.unlock();
        }
    }

    /** Closes it within 30 seconds. */
    @Override
    public void close() throws InterruptedException {
        close(Duration.ofSeconds(30));
    }

    /**
     * Has the consumer closed, within 30 seconds, when the Java VM is asked to end, as by SIGINT and SIGTERM.
     * The VM then waits for that.
     */
    public Consumer closeOnExit() {
        Thread hook = new Thread(() -> {
            try {
                close();
            } catch (InterruptedException error) {
                // The Java VM ends in any case.
            }
        });
        Runtime.getRuntime().addShutdownHook(hook);
        end.whenComplete((ended, refused) -> {
            try {
                Runtime.getRuntime().removeShutdownHook(hook);
            } catch (IllegalStateException error) {
                // It runs.
            }
        });
        return this;
    }

    /** Ends at once, because of `why`. */
    private void fail(MqException why) {
        lock.lock();
        try {
            beginEnd(why);
            abandon();
        } finally {
            lock.unlock();
        }
    }

    private void beginEnd(MqException why) {
        if (closing) {
            return;
        }
        closing = true;
        error = why;
        if (discovery != null) {
            discovery.end();
        }
        waiting.forEach(this::giveBack);
        waiting.clear();
        List.copyOf(feeds.values()).forEach(Feed::leave);
    }

    private void abandon() {
        if (ended) {
            return;
        }
        List.copyOf(feeds.values()).forEach(Feed::end);
        feeds.clear();
        if (workers != null) {
            workers.shutdownNow();
        }
        markEnded();
    }

    /** Notes the end once everything has. The lock is held. */
    void endIfDone() {
        if (closing && !ended && feeds.isEmpty() && working == 0) {
            if (workers != null) {
                workers.shutdown();
            }
            markEnded();
        }
    }

    private void markEnded() {
        ended = true;
        changed.signalAll();
        client.unregister(clientEnds);
        MqException why = error;
        // The lock is not held by what depends on it.
        ForkJoinPool.commonPool().execute(() -> {
            if (why == null) {
                end.complete(null);
            } else {
                end.completeExceptionally(why);
            }
        });
    }

    /** A feed has ended; `why` if its broker refuses for good. The lock is held. */
    void ended(Feed feed, MqException why) {
        feeds.remove(feed.broker, feed);
        if (why != null && feeds.isEmpty()) {
            beginEnd(why);
        }
        feeds.values().forEach(Feed::look);
        endIfDone();
    }

    boolean isClosing() {
        return closing;
    }

    /** Takes in what a broker has sent. The lock is held. Returns what is to be begun, by {@link #begin}. */
    void deliver(Session session, ReceivedMessage message, long now, List<Run> begins) {
        Key key = new Key(session.feed.broker, message);
        Run run = runs.get(key);
        if (done.take(key)) {
            session.finish(message.getToken(), key);
        } else if (run != null) {
            // Its delivery before is over, the work is not: what comes of it is of this one.
            run.attach(session, message.getToken(), now);
        } else if (closing) {
            session.release(message.getToken());
        } else {
            run = new Run(key, new Delivery(message, session.feed.broker));
            run.attach(session, message.getToken(), now);
            runs.put(key, run);
            waiting.add(run);
            if (working < options.concurrency) {
                begins.add(next());
            }
        }
    }

    private Run next() {
        Run run = waiting.poll();
        run.isWorking = true;
        working++;
        begun = System.nanoTime();
        return run;
    }

    /** Works on what was delivered; the lock is not held. */
    void begin(List<Run> begins) {
        for (Run run : begins) {
            if (workers != null) {
                workers.execute(() -> work(run));
            } else {
                workAsync(run);
            }
        }
    }

    /** Works on a message, and on those that wait. */
    private void work(Run run) {
        for (Run next = run; next != null; ) {
            long began = System.nanoTime();
            Throwable failure = null;
            try {
                handler.handle(next.delivery);
            } catch (Throwable thrown) {
                failure = thrown;
            }
            next = settle(next, failure, System.nanoTime() - began);
        }
    }

    private void workAsync(Run run) {
        long began = System.nanoTime();
        try {
            asyncHandler.handle(run.delivery).whenComplete((value, failure) -> {
                Run next = settle(run, failure, System.nanoTime() - began);
                if (next != null) {
                    // Not here: what is complete already would nest ever deeper.
                    client.tasks().execute(() -> workAsync(next));
                }
            });
        } catch (RuntimeException failure) {
            Run next = settle(run, failure, System.nanoTime() - began);
            if (next != null) {
                client.tasks().execute(() -> workAsync(next));
            }
        }
    }

    /** Acknowledges what was worked on. Returns what to work on next, or null. */
    private Run settle(Run run, Throwable failure, long nowTookNs) {
        Duration delay = failure == null ? null : delay(run.delivery, failure);
        if (failure != null) {
            LOG.log(System.Logger.Level.WARNING, "a handler failed: topic " + topic, failure);
        }
        lock.lock();
        try {
            tookNs = tookNs == 0 ? nowTookNs : Math.max(tookNs + (nowTookNs - tookNs) / 8, 1);
            runs.remove(run.key);
            Session session = run.session;
            run.lose();
            if (failure == null && session == null) {
                // It comes again, and is finished then.
                done.add(run.key, System.nanoTime());
            } else if (failure == null) {
                session.finish(run.token, run.key);
            } else if (session != null && !ended) {
                session.requeue(run.token, delay);
            }
            working--;
            if (!waiting.isEmpty()) {
                return next();
            }
            feeds.values().forEach(Feed::look);
            endIfDone();
            return null;
        } finally {
            lock.unlock();
        }
    }

    private Duration delay(Delivery message, Throwable failure) {
        Throwable cause = failure instanceof CompletionException ? failure.getCause() : failure;
        if (cause instanceof RequeueException) {
            return ((RequeueException) cause).delay();
        }
        return options.retryDelay.apply(message);
    }

    /** A delivery is over without our doing: its timeout passed, or its stream ended. The lock is held. */
    void lost(Run run) {
        run.lose();
        if (!run.isWorking) {
            // Nobody begins what is delivered again anyway.
            runs.remove(run.key);
            waiting.remove(run);
        }
    }

    /** A finish came too late: the message is delivered again, or was meanwhile. The lock is held. */
    void again(Key key) {
        Run run = runs.get(key);
        if (run == null) {
            done.add(key, System.nanoTime());
        } else if (!run.isWorking && run.session != null) {
            Session session = run.session;
            lost(run);
            session.finish(run.token, key);
        }
    }

    /** Notes that what was finished may come again. The lock is held. */
    void remember(Key key, long now) {
        done.add(key, now);
    }

    private void giveBack(Run run) {
        runs.remove(run.key);
        Session session = run.session;
        run.lose();
        if (session != null) {
            session.release(run.token);
        }
    }

    /** Messages that are to be here: as many as are at work, and what is worked on within a moment. */
    private int capacity(long now) {
        // If all are at work nothing was begun since, so they take that long at least.
        long took = working == options.concurrency ? Math.max(tookNs, now - begun) : tookNs;
        if (took <= 0) {
            return options.concurrency;
        }
        double more = Math.min((double) MOMENT_NS / took * options.concurrency, options.maxInFlight);
        return Math.max(Math.min(options.concurrency + (int) more, options.maxInFlight), 1);
    }

    /** Messages that each broker may have in flight here. The lock is held. */
    int credit(long now) {
        int brokers = Math.max(feeds.size(), 1);
        return closing ? 0 : Math.max((capacity(now) + brokers - 1) / brokers, 1);
    }

    /**
     * Gives back what came when handlers were quicker than they are. Returns whether anything waits. The lock
     * is held.
     */
    boolean trim(long now) {
        int capacity = capacity(now);
        if (waiting.size() > 2 * capacity) {
            List<Run> kept = new ArrayList<>();
            for (Iterator<Run> each = waiting.iterator(); each.hasNext(); ) {
                Run run = each.next();
                if (kept.size() < capacity) {
                    kept.add(run);
                } else {
                    giveBack(run);
                }
            }
            waiting.clear();
            waiting.addAll(kept);
        }
        return !waiting.isEmpty();
    }

    /** Keys that are kept for a while. */
    private static final class Memory extends java.util.LinkedHashMap<Key, Long> {
        private static final long serialVersionUID = 1;
        /**
         * A message comes again at the latest after the longest timeout that a broker allows by default, 15
         * minutes.
         */
        private static final long FOR_NS = Duration.ofMinutes(20).toNanos();

        private static final int MOST = 100_000;

        void add(Key key, long now) {
            remove(key);
            put(key, now);
            Iterator<Long> oldest = values().iterator();
            while (oldest.hasNext() && (now - oldest.next() > FOR_NS || size() > MOST)) {
                oldest.remove();
            }
        }

        boolean take(Key key) {
            return remove(key) != null;
        }
    }
}
