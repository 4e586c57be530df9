package io.libmq.client;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

public class PublisherTest {
    @Rule
    public final TemporaryFolder folder = new TemporaryFolder();

    private static final Duration PATIENCE = Duration.ofSeconds(Server.PATIENCE_S);

    @Test(timeout = 120_000)
    public void publishesAtTheSameTimeHaveAResultEach() throws Exception {
        final int threads = 32, each = 50;
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address());
                Publisher publisher = client.publisher()) {
            ExecutorService pool = Executors.newFixedThreadPool(threads);
            List<Future<List<Long>>> all = new ArrayList<>();
            for (int n = 0; n < threads; n++) {
                all.add(pool.submit(() -> {
                    List<Long> offsets = new ArrayList<>();
                    for (int m = 0; m < each; m++) {
                        offsets.add(publisher.publish("t", Message.of("x")).offset());
                    }
                    return offsets;
                }));
            }
            Set<Long> once = new HashSet<>();
            for (Future<List<Long>> one : all) {
                long before = -1;
                for (long offset : one.get()) {
                    assertTrue("offsets rise", offset > before);
                    assertTrue("an offset comes once", once.add(offset));
                    before = offset;
                }
            }
            pool.shutdown();
            assertEquals(threads * each, broker.topic(client).getDepth());
        }
    }

    /** A batch has one message, so whoever publishes or takes an answer in sends what another has left. */
    @Test(timeout = 120_000)
    public void messagesOfAThreadAreStoredInTheirOrder() throws Exception {
        final int threads = 16, rounds = 400, each = 4;
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address());
                Publisher publisher = client.publisher(new PublisherOptions().maxBatch(1, 1 << 20))) {
            ExecutorService pool = Executors.newFixedThreadPool(threads);
            List<Future<Void>> all = new ArrayList<>();
            for (int n = 0; n < threads; n++) {
                all.add(pool.submit(() -> {
                    long before = -1;
                    for (int round = 0; round < rounds; round++) {
                        List<CompletableFuture<Receipt>> results = new ArrayList<>();
                        for (int m = 0; m < each; m++) {
                            results.add(publisher.send("t", Message.of("x")));
                        }
                        for (CompletableFuture<Receipt> result : results) {
                            long offset = result.get().offset();
                            assertTrue(offset + " comes after " + before, offset > before);
                            before = offset;
                        }
                    }
                    return null;
                }));
            }
            for (Future<Void> one : all) {
                one.get();
            }
            pool.shutdown();
        }
    }

    @Test(timeout = 120_000)
    public void killsOfTheBrokerLoseNothingAndStoreNothingTwice() throws Exception {
        final int messages = 10_000, kills = 4;
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address());
                Publisher publisher = client.publisher(new PublisherOptions().maxBatch(50, 1 << 20).timeout(PATIENCE))) {
            List<CompletableFuture<Receipt>> results = new ArrayList<>();
            for (int n = 0; n < messages; n++) {
                results.add(publisher.send("t", Message.of("" + n)));
                if (n % (messages / kills) == messages / kills / 2) {
                    // In the midst of its answers.
                    results.get(n / 2).get();
                    broker.kill();
                    broker.run();
                }
            }
            assertTrue(publisher.flush(PATIENCE));
            Set<Long> once = new HashSet<>();
            for (CompletableFuture<Receipt> result : results) {
                assertTrue("an offset comes once", once.add(result.get().offset()));
            }
            assertEquals(messages, broker.topic(client).getDepth());
        }
    }

    @Test(timeout = 120_000)
    public void theSameIdIsStoredOnce() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address());
                Publisher publisher = client.publisher()) {
            Message message = Message.of("x").withId("a").withHeader("h", new byte[] {1});
            Receipt first = publisher.publish("t", message), second = publisher.publish("t", message);
            assertFalse(first.isDuplicate());
            assertTrue(second.isDuplicate());
            assertEquals(first.offset(), second.offset());
        }
    }

    @Test(timeout = 120_000)
    public void oneRefusedMessageIsNoHarmToItsNeighbours() throws Exception {
        try (Server broker = Server.broker(folder, "-max-msg-size", "100");
                MqClient client = MqClient.of(broker.address());
                Publisher publisher = client.publisher()) {
            List<CompletableFuture<Receipt>> results = new ArrayList<>();
            for (int n = 0; n < 100; n++) {
                // A name of 256 bytes is refused by the broker, a body of 101 by the publisher.
                String name = "h".repeat(n == 37 ? 256 : 3);
                results.add(publisher.send("t", Message.of("x".repeat(n == 73 ? 101 : 1)).withHeader(name, new byte[1])));
            }
            assertTrue(publisher.flush(PATIENCE));
            for (int n = 0; n < 100; n++) {
                assertEquals("the " + n + "th", n == 37 || n == 73, results.get(n).isCompletedExceptionally());
            }
            MqException empty = assertThrows(MqException.class, () -> publisher.publish("t", Message.of("")));
            assertEquals(MqException.Kind.REFUSED, empty.kind());
            MqException named = assertThrows(MqException.class, () -> publisher.publish("no good", Message.of("x")));
            assertEquals("topic", named.field());
        }
    }

    @Test(timeout = 120_000)
    public void whoPublishesMoreThanThereIsRoomForWaitsAndTheTimeoutMakesRoom() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            broker.kill();
            Duration timeout = Duration.ofMillis(500);
            Publisher publisher = client.publisher(new PublisherOptions().maxPendingBytes(10_000).timeout(timeout));
            List<CompletableFuture<Receipt>> first = new ArrayList<>();
            for (int n = 0; n < 10; n++) {
                first.add(publisher.send("t", Message.of("x".repeat(744))));
            }
            assertEquals(10, publisher.pending());
            CompletableFuture<Receipt> waited = publisher.send("t", Message.of("x".repeat(744)));
            assertTrue("there was no room before", publisher.pending() <= 10);
            for (CompletableFuture<Receipt> result : List.of(first.get(0), waited)) {
                ExecutionException failed = assertThrows(ExecutionException.class, () -> result.get());
                assertEquals(MqException.Kind.UNREACHABLE, ((MqException) failed.getCause()).kind());
            }
            publisher.close();
        }
    }

    @Test(timeout = 120_000)
    public void whatDependsOnAResultHasRunWhenAFlushReturns() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address());
                Publisher publisher = client.publisher()) {
            AtomicInteger passed = new AtomicInteger();
            for (int n = 1; n <= 500; n++) {
                publisher.send("t", Message.of("x")).whenComplete((receipt, error) -> passed.incrementAndGet());
                assertTrue(publisher.flush(PATIENCE));
                assertEquals(n, passed.get());
            }
        }
    }

    @Test(timeout = 120_000)
    public void whatDependsOnAResultAndBlocksHoldsUpNoPublishThatWaits() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address());
                Publisher publisher = client.publisher()) {
            CountDownLatch begun = new CountDownLatch(1), end = new CountDownLatch(1);
            CompletableFuture<Void> blocked = publisher.send("t", Message.of("x")).thenRun(() -> {
                begun.countDown();
                await(end);
            });
            await(begun);
            for (int n = 0; n < 100; n++) {
                publisher.publish("t", Message.of("x"));
            }
            assertFalse("a flush waits for it", publisher.flush(Duration.ofMillis(50)));
            end.countDown();
            blocked.get();
            assertTrue(publisher.flush(PATIENCE));
        }
    }

    private static void await(CountDownLatch latch) {
        try {
            assertTrue(latch.await(Server.PATIENCE_S, TimeUnit.SECONDS));
        } catch (InterruptedException error) {
            throw new AssertionError(error);
        }
    }

    @Test(timeout = 120_000)
    public void anInterruptEndsTheWaitAndNotTheMessage() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address());
                Publisher publisher = client.publisher(new PublisherOptions().timeout(PATIENCE))) {
            broker.kill();
            Thread.currentThread().interrupt();
            assertThrows(InterruptedException.class, () -> publisher.publish("t", Message.of("not taken in")));
            Thread self = Thread.currentThread();
            Thread other = new Thread(() -> {
                try {
                    Server.eventually("it waits", () -> publisher.pending() == 1);
                    self.interrupt();
                } catch (InterruptedException error) {
                    throw new AssertionError(error);
                }
            });
            other.start();
            assertThrows(InterruptedException.class, () -> publisher.publish("t", Message.of("taken in")));
            other.join();
            broker.run();
            assertTrue(publisher.flush(PATIENCE));
            assertEquals(1, broker.topic(client).getDepth());
        }
    }

    @Test(timeout = 120_000)
    public void closeHasAResultForEverything() throws Exception {
        try (Server broker = Server.broker(folder);
                MqClient client = MqClient.of(broker.address())) {
            broker.kill();
            Publisher publisher = client.publisher();
            CompletableFuture<Receipt> result = publisher.send("t", Message.of("x"));
            assertFalse(publisher.close(Duration.ofMillis(50)));
            ExecutionException failed =
                    assertThrows(ExecutionException.class, () -> result.get(1, TimeUnit.SECONDS));
            assertEquals(MqException.Kind.CLOSED, ((MqException) failed.getCause()).kind());
            MqException late = assertThrows(MqException.class, () -> publisher.publish("t", Message.of("x")));
            assertEquals(MqException.Kind.CLOSED, late.kind());
        }
    }
}
