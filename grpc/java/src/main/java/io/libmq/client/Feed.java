package io.libmq.client;

import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.libmq.v1.SubscribeRequest;
import io.libmq.v1.SubscribeResponse;
import io.libmq.v1.SubscribeServiceGrpc;
import io.libmq.v1.SubscribeUpdate;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/** One broker's part of a consumer: keeps a stream to it. Guarded by the consumer's lock. */
final class Feed {
    final Consumer consumer;
    final String broker;
    /** Whether the stream is to be opened again when it ends. */
    boolean isWanted = true;

    private final Pauses pauses = new Pauses();
    /** The stream; null while there is none. */
    private Link link;

    private boolean isPumping, isEnded;
    private long pumpAt;

    Feed(Consumer consumer, String broker) {
        this.consumer = consumer;
        this.broker = broker;
    }

    void open() {
        link = new Link();
        try {
            SubscribeServiceGrpc.newStub(consumer.client.fresh(broker)).subscribe(link);
            link.requests.onNext(SubscribeRequest.newBuilder().setOpen(consumer.open()).build());
            Link opening = link;
            schedule(() -> opening.giveUpOpening(), MqClient.OPEN_TIMEOUT_MS);
        } catch (MqException closed) {
            // So is the consumer.
            link = null;
        }
    }

    private void schedule(Runnable task, long ms) {
        consumer.client.tasks().schedule(task, ms, TimeUnit.MILLISECONDS);
    }

    /** Has another thread send what there is to send: what comes meanwhile goes along. */
    void look() {
        if (!isPumping && link != null && link.session != null && !isEnded) {
            isPumping = true;
            try {
                consumer.client.tasks().execute(this::pump);
            } catch (RejectedExecutionException closed) {
                // So is the consumer.
            }
        }
    }

    private void pump() {
        consumer.lock.lock();
        try {
            isPumping = false;
            if (link == null || link.session == null || link.isClosed) {
                return;
            }
            long now = System.nanoTime();
            for (SubscribeUpdate update; (update = link.session.update(now)) != null; ) {
                link.requests.onNext(SubscribeRequest.newBuilder().setUpdate(update).build());
            }
            if (link.session.isDone()) {
                link.isClosed = true;
                link.requests.onCompleted();
                return;
            }
            long pauseNs = link.session.pauseNs;
            if (pauseNs != Long.MAX_VALUE && (pumpAt - now <= 0 || pumpAt - now > pauseNs)) {
                pumpAt = now + pauseNs;
                consumer.client.tasks().schedule(this::pump, pauseNs, TimeUnit.NANOSECONDS);
            }
        } catch (RejectedExecutionException closed) {
            // So is the consumer.
        } finally {
            consumer.lock.unlock();
        }
    }

    /** Ends in order: once nothing is in flight. One that has no stream ends at once. */
    void leave() {
        if (link != null && link.session != null) {
            look();
        } else {
            end();
            consumer.ended(this, null);
        }
    }

    /** Ends without waiting. */
    void end() {
        isEnded = true;
        if (link != null) {
            Link gone = link;
            link = null;
            gone.end();
        }
    }

    private void lost(Link gone, Status status) {
        if (link != gone) {
            return;
        }
        link = null;
        gone.end();
        if (isEnded) {
            return;
        }
        boolean isRefused = MqException.isFinal(status);
        if (consumer.isClosing() || isRefused || !isWanted) {
            isEnded = true;
            consumer.ended(this, isRefused && !consumer.isClosing() ? MqException.refused(status) : null);
            return;
        }
        schedule(this::reopen, pauses.nextMs());
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

    /** One stream. */
    private final class Link implements ClientResponseObserver<SubscribeRequest, SubscribeResponse> {
        private ClientCallStreamObserver<SubscribeRequest> requests;
        private Session session;
        private ScheduledFuture<?> touching;
        /** Our side is closed. */
        private boolean isClosed;

        @Override
        public void beforeStart(ClientCallStreamObserver<SubscribeRequest> stream) {
            requests = stream;
        }

        void end() {
            requests.cancel("the consumer ends the stream", null);
            if (touching != null) {
                touching.cancel(false);
            }
            if (session != null) {
                session.end();
            }
        }

        void giveUpOpening() {
            consumer.lock.lock();
            try {
                if (session == null) {
                    lost(this, Status.UNAVAILABLE.withDescription("no stream was opened in time"));
                }
            } finally {
                consumer.lock.unlock();
            }
        }

        private void touch() {
            consumer.lock.lock();
            try {
                session.touch(System.nanoTime());
            } finally {
                consumer.lock.unlock();
            }
        }

        @Override
        public void onNext(SubscribeResponse response) {
            List<Consumer.Run> begins = new ArrayList<>();
            consumer.lock.lock();
            try {
                if (link != this) {
                    return;
                }
                take(response, begins);
            } catch (RejectedExecutionException closed) {
                // So is the consumer.
            } finally {
                consumer.lock.unlock();
            }
            consumer.begin(begins);
        }

        private void take(SubscribeResponse response, List<Consumer.Run> begins) {
            switch (response.getResponseCase()) {
                case OPENED:
                    pauses.reset();
                    session = new Session(Feed.this, response.getOpened());
                    long everyMs = session.touchEveryMs();
                    touching = consumer.client
                            .tasks()
                            .scheduleWithFixedDelay(this::touch, everyMs, everyMs, TimeUnit.MILLISECONDS);
                    break;
                case BATCH:
                    long now = System.nanoTime();
                    response.getBatch()
                            .getMessagesList()
                            .forEach(message -> consumer.deliver(session, message, now, begins));
                    break;
                case FAILURES:
                    response.getFailures().getFailuresList().forEach(session::failed);
                    break;
                case CONFIRMED:
                    session.confirmed(response.getConfirmed().getConfirm());
                    break;
                default:
                    break;
            }
            look();
        }

        @Override
        public void onError(Throwable error) {
            gone(Status.fromThrowable(error));
        }

        @Override
        public void onCompleted() {
            gone(Status.UNAVAILABLE.withDescription("the broker ended the stream"));
        }

        private void gone(Status status) {
            consumer.lock.lock();
            try {
                lost(this, status);
            } catch (RejectedExecutionException closed) {
                // So is the consumer.
            } finally {
                consumer.lock.unlock();
            }
        }
    }
}
