package io.libmq.client;

import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.libmq.v1.BrokerInfo;
import io.libmq.v1.DiscoveryServiceGrpc;
import io.libmq.v1.WatchRequest;
import io.libmq.v1.WatchResponse;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;

/** Follows what discovery services say of a topic. Guarded by the consumer's lock. */
final class Discovery {
    private final Consumer consumer;
    private final String topic;
    private final List<Watch> watches = new ArrayList<>();
    private boolean isEnded;

    Discovery(Consumer consumer, String topic) {
        this.consumer = consumer;
        this.topic = topic;
        consumer.client.discovery().forEach(service -> watches.add(new Watch(service)));
        watches.forEach(Watch::open);
    }

    void end() {
        isEnded = true;
        watches.forEach(Watch::end);
    }

    /** The brokers that any of the services names. */
    private void heard() {
        Set<String> brokers = new LinkedHashSet<>();
        watches.forEach(watch -> brokers.addAll(watch.brokers));
        consumer.follow(brokers);
    }

    /** One service. What it said last holds while it is away. */
    private final class Watch {
        private final String service;
        private final Pauses pauses = new Pauses();
        private List<String> brokers = List.of();
        private ClientCallStreamObserver<WatchRequest> call;

        Watch(String service) {
            this.service = service;
        }

        void open() {
            WatchRequest request = WatchRequest.newBuilder().setTopic(topic).build();
            try {
                DiscoveryServiceGrpc.newStub(consumer.client.fresh(service)).watch(request, new Answers());
            } catch (MqException closed) {
                // So is the consumer.
                isEnded = true;
            }
        }

        void end() {
            if (call != null) {
                call.cancel("the consumer ends", null);
            }
        }

        private void reopen() {
            consumer.lock.lock();
            try {
                if (!isEnded) {
                    open();
                }
            } finally {
                consumer.lock.unlock();
            }
        }

        private void lost() {
            consumer.lock.lock();
            try {
                if (!isEnded) {
                    consumer.client.tasks().schedule(this::reopen, pauses.nextMs(), TimeUnit.MILLISECONDS);
                }
            } catch (RejectedExecutionException closed) {
                // So is the consumer.
            } finally {
                consumer.lock.unlock();
            }
        }

        private final class Answers implements ClientResponseObserver<WatchRequest, WatchResponse> {
            @Override
            public void beforeStart(ClientCallStreamObserver<WatchRequest> stream) {
                call = stream;
            }

            @Override
            public void onNext(WatchResponse answer) {
                List<String> named = new ArrayList<>();
                for (BrokerInfo broker : answer.getBrokersList()) {
                    String host = broker.getAddress();
                    // One without a port is an nsqd.
                    if (broker.getGrpcPort() > 0) {
                        boolean isBare = host.contains(":") && !host.startsWith("[");
                        named.add((isBare ? "[" + host + "]" : host) + ":" + broker.getGrpcPort());
                    }
                }
                consumer.lock.lock();
                try {
                    pauses.reset();
                    brokers = named;
                    if (!isEnded) {
                        heard();
                    }
                } finally {
                    consumer.lock.unlock();
                }
            }

            @Override
            public void onError(Throwable error) {
                lost();
            }

            @Override
            public void onCompleted() {
                lost();
            }
        }
    }
}
