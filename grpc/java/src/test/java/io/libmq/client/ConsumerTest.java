package io.libmq.client;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

public class ConsumerTest {
    @Rule
    public final TemporaryFolder folder = new TemporaryFolder();

    private static final Duration PATIENCE = Duration.ofSeconds(Server.PATIENCE_S);

    /** Number of times that each body was handled. */
    private final Map<String, Integer> times = new ConcurrentHashMap<>();

    private void count(Delivery message) {
        times.merge(message.text(), 1, Integer::sum);
    }

    private void isOnce(int messages) {
        times.forEach((body, count) -> assertEquals(body, 1, (int) count));
        assertEquals(messages, times.size());
    }

    private static void publish(MqClient client, int from, int to) throws Exception {
        try (Publisher publisher = client.publisher(new PublisherOptions().timeout(PATIENCE))) {
            List<CompletableFuture<Receipt>> results = new ArrayList<>();
            for (int n = from; n < to; n++) {
                results.add(publisher.send("t", Message.of("" + n)));
            }
            assertTrue(publisher.flush(PATIENCE));
            for (CompletableFuture<Receipt> result : results) {
                result.get();
            }
        }
    }

    private static ConsumerOptions options() {
        return new ConsumerOptions();
    }

    @Test(timeout = 120_000)
    public void eachMessageIsHandledOnceAndNoMoreAtATimeThanAskedFor() throws Exception {
        final int messages = 3000;
        AtomicInteger working = new AtomicInteger(), most = new AtomicInteger();
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            publish(client, 0, messages);
            Consumer consumer = client.consumer("t", "c", message -> {
                most.accumulateAndGet(working.incrementAndGet(), Math::max);
                count(message);
                working.decrementAndGet();
            }, options().concurrency(8));
            Server.eventually("all are handled", () -> times.size() == messages);
            assertTrue(consumer.close(PATIENCE));
            isOnce(messages);
            assertTrue(most + " at a time", most.get() <= 8);
            broker.holdsNothing(client);
        }
    }

    @Test(timeout = 120_000)
    public void handlersThatReturnBeforeTheirWorkIsDoneAreCountedUntilItIs() throws Exception {
        LinkedBlockingQueue<CompletableFuture<Void>> begun = new LinkedBlockingQueue<>();
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            publish(client, 0, 20);
            Consumer consumer = client.asyncConsumer("t", "c", message -> {
                count(message);
                CompletableFuture<Void> work = new CompletableFuture<>();
                begun.add(work);
                return work;
            }, options().concurrency(3));
            for (int n = 0; n < 20; n++) {
                CompletableFuture<Void> work = begun.take();
                assertTrue("at most three", begun.size() <= 2);
                work.complete(null);
            }
            assertTrue(consumer.close(PATIENCE));
            isOnce(20);
            broker.holdsNothing(client);
        }
    }

    @Test(timeout = 120_000)
    public void aDeliveryHasWhatWasPublishedAndWhatFailsIsDeliveredAgain() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            Receipt receipt;
            try (Publisher publisher = client.publisher()) {
                receipt = publisher.publish("t", Message.of("x").withHeader("h", new byte[] {1, 2}));
            }
            LinkedBlockingQueue<Delivery> came = new LinkedBlockingQueue<>();
            Consumer consumer = client.consumer("t", "c", message -> {
                came.add(message);
                if (message.attempts() == 1) {
                    throw new RequeueException(Duration.ZERO, null);
                }
                if (message.attempts() == 2) {
                    throw new IllegalStateException("once more");
                }
            }, options().retryDelay(message -> Duration.ofMillis(1)));
            for (int attempt = 1; attempt <= 3; attempt++) {
                Delivery got = came.take();
                assertEquals("x", got.text());
                assertArrayEquals(new byte[] {1, 2}, got.header("h").get());
                assertEquals(receipt.offset(), got.offset());
                assertEquals(attempt, got.attempts());
            }
            assertTrue(consumer.close(PATIENCE));
            broker.holdsNothing(client);
        }
    }

    @Test(timeout = 120_000)
    public void slowHandlersKeepWhatTheyHaveAndWhatWaits() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            publish(client, 0, 24);
            Consumer consumer = client.consumer("t", "c", message -> {
                count(message);
                // Longer than the timeout.
                Thread.sleep(1000);
            }, options().concurrency(12).messageTimeout(Duration.ofMillis(300)));
            Server.eventually("all are handled", () -> times.size() == 24);
            assertTrue(consumer.close(PATIENCE));
            isOnce(24);
            assertEquals(0, broker.channel(client).getTimedOut());
            assertEquals(24, broker.channel(client).getFinished());
        }
    }

    @Test(timeout = 120_000)
    public void aHandlerThatTakesLongerThanTheBrokerAllowsIsNotCalledAgain() throws Exception {
        try (Server broker = Server.broker(folder, "-msg-timeout", "200ms", "-max-msg-timeout", "400ms");
                MqClient client = MqClient.of(broker.address())) {
            publish(client, 0, 6);
            Consumer consumer = client.consumer("t", "c", message -> {
                count(message);
                Thread.sleep(1500);
            }, options().concurrency(3));
            Server.eventually("all are finished", () -> broker.channel(client).getFinished() == 6);
            assertTrue(consumer.close(PATIENCE));
            isOnce(6);
            assertTrue("something timed out", broker.channel(client).getTimedOut() > 0);
            broker.holdsNothing(client);
        }
    }

    @Test(timeout = 120_000)
    public void killsOfTheBrokerLoseNothingAndNothingIsHandledTwice() throws Exception {
        final int messages = 4000, kills = 4;
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            Consumer consumer = client.consumer("t", "c", this::count, options());
            for (int n = 0; n < kills; n++) {
                publish(client, n * messages / kills, (n + 1) * messages / kills);
                int before = n * messages / kills;
                Server.eventually("it is in the midst", () -> times.size() > before);
                broker.kill();
                broker.run();
            }
            Server.eventually(() -> times.size() + " are handled", () -> times.size() == messages);
            // What was finished when the broker was killed comes again, and is finished without the handler.
            broker.holdsNothing(client);
            assertTrue(consumer.close(PATIENCE));
            isOnce(messages);
        }
    }

    @Test(timeout = 120_000)
    public void closeFinishesWhatIsAtWorkAndGivesTheRestBackUnseen() throws Exception {
        final int messages = 200;
        AtomicInteger calls = new AtomicInteger();
        CountDownLatch goOn = new CountDownLatch(1);
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            publish(client, 0, messages);
            Consumer consumer = client.consumer("t", "c", message -> {
                count(message);
                if (calls.incrementAndGet() > messages / 2) {
                    goOn.await();
                }
            }, options().concurrency(4));
            Server.eventually("four are stuck", () -> times.size() == messages / 2 + 4);
            CompletableFuture<Boolean> closed = CompletableFuture.supplyAsync(() -> {
                try {
                    return consumer.close(PATIENCE);
                } catch (InterruptedException error) {
                    throw new IllegalStateException(error);
                }
            });
            Server.eventually("what waits is given back", () -> broker.channel(client).getInFlight() == 4);
            goOn.countDown();
            assertTrue(closed.get());
            assertEquals(messages / 2 + 4, broker.channel(client).getFinished());
            AtomicInteger again = new AtomicInteger();
            Consumer other = client.consumer("t", "c", message -> {
                again.addAndGet(message.attempts() - 1);
                count(message);
            }, options());
            Server.eventually("all are handled", () -> times.size() == messages);
            assertTrue(other.close(PATIENCE));
            isOnce(messages);
            assertEquals("what was given back counts as no attempt", 0, again.get());
        }
    }

    @Test(timeout = 120_000)
    public void aCloseThatIsNotWaitedForInterruptsHandlersAndWhatTheyHadComesAgain() throws Exception {
        CountDownLatch began = new CountDownLatch(1), interrupted = new CountDownLatch(1);
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            publish(client, 0, 1);
            Consumer stuck = client.consumer("t", "c", message -> {
                began.countDown();
                try {
                    new CountDownLatch(1).await();
                } finally {
                    interrupted.countDown();
                }
            }, options());
            began.await();
            assertFalse(stuck.close(Duration.ofMillis(50)));
            interrupted.await();
            Consumer other = client.consumer("t", "c", this::count, options());
            Server.eventually("it comes again", () -> times.size() == 1);
            assertTrue(other.close(PATIENCE));
        }
    }

    @Test(timeout = 120_000)
    public void aRefusalForGoodEndsAConsumer() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            Consumer refused = client.consumer("no good", "c", this::count, options());
            MqException why = assertThrows(MqException.class, refused::await);
            assertEquals(Status.Code.INVALID_ARGUMENT, why.code());
            broker.kill();
            Consumer waiting = client.consumer("t", "c", this::count, options());
            assertTrue("it does not wait for a broker that is away", waiting.close(PATIENCE));
        }
    }

    @Test(timeout = 120_000)
    public void manyBrokersAreFoundByDiscoveryAndThroughTheirRestarts() throws Exception {
        try (Server lookup = Server.lookup()) {
            String[] announced = {"-lookupd-tcp-address", lookup.address("tcp"), "-broadcast-address", "127.0.0.1"};
            try (Server first = Server.broker(folder, announced);
                    Server second = Server.broker(folder, announced);
                    MqClient client = MqClient.builder().discovery(lookup.address()).build();
                    MqClient one = MqClient.of(first.address());
                    MqClient other = MqClient.of(second.address())) {
                Consumer consumer = client.consumer("t", "c", this::count, options());
                publish(one, 0, 100);
                publish(other, 100, 200);
                Server.eventually("all are handled", () -> times.size() == 200);
                lookup.kill();
                first.kill();
                first.run();
                publish(one, 200, 300);
                // Without a lookup server: what it said last holds.
                Server.eventually("all are handled", () -> times.size() == 300);
                lookup.run();
                assertTrue(consumer.close(PATIENCE));
                isOnce(300);
            }
        }
    }
}
