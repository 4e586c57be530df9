package io.libmq.client;

import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executor;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * The connections that publishers and consumers share: one to each server. Safe for use by many threads.
 *
 * <p>A client connects when that is first needed. Closing it ends what was not closed before, abruptly.
 */
public final class MqClient implements AutoCloseable {
    /** A peer is asked after this long without a sign of life, and is gone after as long again. */
    private static final long KEEPALIVE_S = 20;
    /** Longest time for opening a stream, connecting included. */
    static final long OPEN_TIMEOUT_MS = 10_000;
    /** A thread that has had nothing to do for so long ends. */
    private static final long IDLE_S = 10;

    private final List<String> brokers;
    private final List<String> discovery;
    private final ChannelCredentials credentials;
    private final Metadata shown = new Metadata();
    private final Map<String, ManagedChannel> channels = new HashMap<>();
    /** Runs what waits for a time, and what several threads want done once. */
    private final ScheduledThreadPoolExecutor tasks;
    /** Runs what depends on the results of publishes. */
    private final ThreadPoolExecutor dependents;
    /** Publishers and consumers that are not closed. */
    private final Set<Runnable> open = new LinkedHashSet<>();

    private boolean closed;

    private MqClient(Builder builder) {
        brokers = List.copyOf(builder.brokers);
        discovery = List.copyOf(builder.discovery);
        credentials = builder.credentials;
        if (!builder.token.isEmpty()) {
            shown.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + builder.token);
        }
        tasks = new ScheduledThreadPoolExecutor(1, threads("libmq-client"));
        dependents = new ThreadPoolExecutor(
                1, 1, IDLE_S, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), threads("libmq-results"));
        dependents.allowCoreThreadTimeOut(true);
        tasks.setRemoveOnCancelPolicy(true);
        // Tasks that wait for a time have no use once the client closes.
        tasks.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
        tasks.setContinueExistingPeriodicTasksAfterShutdownPolicy(false);
    }

    private static ThreadFactory threads(String name) {
        return task -> {
            Thread thread = new Thread(task, name);
            thread.setDaemon(true);
            return thread;
        };
    }

    /** Settings of a client. */
    public static final class Builder {
        private final List<String> brokers = new ArrayList<>();
        private final List<String> discovery = new ArrayList<>();
        private ChannelCredentials credentials = InsecureChannelCredentials.create();
        private String token = "";

        private Builder() {}

        /**
         * Adds a broker by its address, such as 127.0.0.1:4155. A publisher publishes to one of them, and to
         * the next if that is gone; a consumer consumes from all.
         */
        public Builder broker(String address) {
            brokers.add(address);
            return this;
        }

        /**
         * Adds a discovery service (of `mq lookup`, such as 127.0.0.1:4165). Consumers follow the brokers
         * that have their topic by what these say, and not those of {@link #broker}. Publishers do not use
         * them.
         */
        public Builder discovery(String address) {
            discovery.add(address);
            return this;
        }

        /** Sets credentials, such as gRPC's TlsChannelCredentials. */
        public Builder credentials(ChannelCredentials value) {
            credentials = value;
            return this;
        }

        /** Shows a token with each call. Without TLS it can be read on its way. An empty one is not shown. */
        public Builder token(String value) {
            token = value;
            return this;
        }

        /** Makes the client. */
        public MqClient build() {
            if (brokers.isEmpty() && discovery.isEmpty()) {
                throw new IllegalArgumentException("a client needs the address of a broker or of a discovery service");
            }
            return new MqClient(this);
        }
    }

    /** Settings of a client. */
    public static Builder builder() {
        return new Builder();
    }

    /** A client of these brokers. */
    public static MqClient of(String... addresses) {
        Builder builder = builder();
        List.of(addresses).forEach(builder::broker);
        return builder.build();
    }

    /** Makes a publisher to the client's brokers. */
    public Publisher publisher(PublisherOptions options) {
        if (brokers.isEmpty()) {
            throw new IllegalStateException("a publisher needs the address of a broker");
        }
        return new Publisher(this, options);
    }

    /** Makes a publisher with the default settings. */
    public Publisher publisher() {
        return publisher(new PublisherOptions());
    }

    /**
     * Consumes a channel: calls the handler on threads of its own, as many as the options say. The channel is
     * created if it does not exist, and so is the topic.
     */
    public Consumer consumer(String topic, String channel, Handler handler, ConsumerOptions options) {
        return new Consumer(this, topic, channel, handler, null, options);
    }

    /**
     * The same with a handler that returns before its work is done. It is called on threads of gRPC's, and
     * must not block.
     */
    public Consumer asyncConsumer(String topic, String channel, AsyncHandler handler, ConsumerOptions options) {
        return new Consumer(this, topic, channel, null, handler, options);
    }

    /**
     * The connection to a server, to be used with the stubs in io.libmq.v1. It is the client's, and closed by
     * it.
     */
    public synchronized Channel channel(String address) {
        return ClientInterceptors.intercept(managed(address), MetadataUtils.newAttachHeadersInterceptor(shown));
    }

    private ManagedChannel managed(String address) {
        if (closed) {
            throw MqException.closed();
        }
        return channels.computeIfAbsent(address, name -> Grpc.newChannelBuilder(name, credentials)
                .keepAliveTime(KEEPALIVE_S, TimeUnit.SECONDS)
                .keepAliveTimeout(KEEPALIVE_S, TimeUnit.SECONDS)
                // Brokers say how large a message may be.
                .maxInboundMessageSize(Integer.MAX_VALUE)
                .build());
    }

    /** The same connection, which tries to connect at once: its own pauses are much longer than ours. */
    Channel fresh(String address) {
        ManagedChannel connection;
        synchronized (this) {
            connection = managed(address);
        }
        // The lock is not held: this may call back what waits for the connection.
        connection.resetConnectBackoff();
        return channel(address);
    }

    List<String> brokers() {
        return brokers;
    }

    List<String> discovery() {
        return discovery;
    }

    ScheduledThreadPoolExecutor tasks() {
        return tasks;
    }

    Executor dependents() {
        return dependents;
    }

    /** Adds what is to be called when the client closes. */
    synchronized void register(Runnable end) {
        if (closed) {
            throw MqException.closed();
        }
        open.add(end);
    }

    synchronized void unregister(Runnable end) {
        open.remove(end);
    }

    @Override
    public void close() {
        List<Runnable> left;
        List<ManagedChannel> connections;
        synchronized (this) {
            closed = true;
            left = new ArrayList<>(open);
            connections = new ArrayList<>(channels.values());
            channels.clear();
        }
        left.forEach(Runnable::run);
        tasks.shutdown();
        dependents.shutdown();
        connections.forEach(ManagedChannel::shutdownNow);
    }
}
