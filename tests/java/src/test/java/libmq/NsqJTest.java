package libmq;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import com.sproutsocial.nsq.DirectSubscriber;
import com.sproutsocial.nsq.Message;
import com.sproutsocial.nsq.MessageHandler;
import com.sproutsocial.nsq.Publisher;
import com.sproutsocial.nsq.Subscriber;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.After;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** nsq-j as its users have it, against mq. */
public class NsqJTest {
    /** How long a test waits for what must come: spent only on failure. */
    private static final int PATIENCE_S = 30;

    @Rule public final TemporaryFolder folder = new TemporaryFolder();

    private final List<Publisher> publishers = new ArrayList<>();
    private final List<Subscriber> subscribers = new ArrayList<>();

    @After
    public void stop() {
        publishers.forEach(Publisher::stop);
        subscribers.forEach(Subscriber::stop);
    }

    private Publisher publisher(Broker broker) {
        Publisher publisher = new Publisher(broker.address());
        publishers.add(publisher);
        return publisher;
    }

    private Subscriber subscribe(Broker broker, String channel, int maxInFlight, MessageHandler handler) {
        Subscriber subscriber = new DirectSubscriber(1, broker.address());
        subscribers.add(subscriber);
        subscriber.setDefaultMaxInFlight(maxInFlight);
        subscriber.subscribe("t", channel, handler);
        return subscriber;
    }

    /** What a channel hands out, each message finished. */
    private BlockingQueue<byte[]> collect(Broker broker, String channel) {
        BlockingQueue<byte[]> bodies = new LinkedBlockingQueue<>();
        subscribe(broker, channel, 100, message -> {
            bodies.add(message.getData());
            message.finish();
        });
        return bodies;
    }

    private static <T> T next(BlockingQueue<T> queue) throws InterruptedException {
        T next = queue.poll(PATIENCE_S, TimeUnit.SECONDS);
        assertNotNull("nothing came", next);
        return next;
    }

    private static byte[] bytes(Object text) {
        return text.toString().getBytes();
    }

    @Test
    public void publishesAndBatchesArriveWhole() throws Exception {
        try (Broker broker = new Broker(folder)) {
            Publisher publisher = publisher(broker);
            byte[] large = new byte[100_000];
            large[99_999] = 7;
            publisher.publish("t", bytes("one"));
            publisher.publish("t", List.of(bytes("two"), new byte[] {0, -1, 10}, large));
            BlockingQueue<byte[]> bodies = collect(broker, "c");
            // nsq-j hands messages to a pool of threads: their order is not ours.
            List<byte[]> expected = List.of(bytes("one"), bytes("two"), new byte[] {0, -1, 10}, large);
            TreeSet<String> got = new TreeSet<>(), wanted = new TreeSet<>();
            for (byte[] body : expected) {
                wanted.add(java.util.Arrays.toString(body));
                got.add(java.util.Arrays.toString(next(bodies)));
            }
            assertEquals(wanted, got);
            stop();
        }
    }

    @Test
    public void aDeferredPublishWaits() throws Exception {
        try (Broker broker = new Broker(folder)) {
            BlockingQueue<byte[]> bodies = collect(broker, "c");
            long published = System.nanoTime();
            publisher(broker).publishDeferred("t", bytes("later"), 400, TimeUnit.MILLISECONDS);
            assertArrayEquals(bytes("later"), next(bodies));
            assertTrue(System.nanoTime() - published >= 400_000_000L);
            stop();
        }
    }

    @Test
    public void aPausedChannelDeliversNothing() throws Exception {
        try (Broker broker = new Broker(folder)) {
            broker.createChannel("paused");
            broker.createChannel("open");
            broker.post("/channel/pause?topic=t&channel=paused");
            BlockingQueue<byte[]> paused = collect(broker, "paused");
            BlockingQueue<byte[]> open = collect(broker, "open");
            publisher(broker).publish("t", bytes("held"));
            assertArrayEquals(bytes("held"), next(open));
            assertTrue(paused.isEmpty());
            broker.post("/channel/unpause?topic=t&channel=paused");
            assertArrayEquals(bytes("held"), next(paused));
            stop();
        }
    }

    @Test
    public void connectionsShareAChannelAndEachChannelGetsAll() throws Exception {
        final int count = 300;
        try (Broker broker = new Broker(folder)) {
            broker.createChannel("shared");
            broker.createChannel("other");
            AtomicInteger[] shares = {new AtomicInteger(), new AtomicInteger(), new AtomicInteger()};
            BlockingQueue<String> shared = new LinkedBlockingQueue<>();
            for (AtomicInteger share : shares) {
                subscribe(broker, "shared", 1, message -> {
                    share.incrementAndGet();
                    shared.add(new String(message.getData()));
                    message.finish();
                });
            }
            BlockingQueue<byte[]> other = collect(broker, "other");
            Publisher publisher = publisher(broker);
            TreeSet<String> wanted = new TreeSet<>(), got = new TreeSet<>(), all = new TreeSet<>();
            for (int n = 0; n < count; n++) {
                publisher.publish("t", bytes(n));
                wanted.add(String.valueOf(n));
            }
            for (int n = 0; n < count; n++) {
                got.add(next(shared));
                all.add(new String(next(other)));
            }
            assertEquals(wanted, got);
            assertEquals(wanted, all);
            for (AtomicInteger share : shares) {
                assertTrue("each connection had some", share.get() > 0);
            }
            stop();
        }
    }

    @Test
    public void requeuesCountAttemptsUntilItIsGivenUp() throws Exception {
        try (Broker broker = new Broker(folder)) {
            BlockingQueue<Integer> attempts = new LinkedBlockingQueue<>();
            BlockingQueue<Message> failed = new LinkedBlockingQueue<>();
            Subscriber subscriber = new DirectSubscriber(1, broker.address());
            subscribers.add(subscriber);
            // Read when it subscribes, not later.
            subscriber.setMaxAttempts(3);
            subscriber.setFailedMessageHandler((topic, channel, message) -> failed.add(message));
            subscriber.subscribe("t", "c", (Message message) -> {
                attempts.add(message.getAttempts());
                message.requeue(0);
            });
            publisher(broker).publish("t", bytes("poison"));
            Message last = next(failed);
            assertArrayEquals(bytes("poison"), last.getData());
            // nsq-j gives the last attempt up without handing it out.
            assertEquals(3, last.getAttempts());
            assertEquals(List.of(1, 2), List.copyOf(attempts));
            stop();
        }
    }

    @Test
    public void aMessageTimesOutUnlessItIsTouched() throws Exception {
        try (Broker broker = new Broker(folder, "-msg-timeout", "1s")) {
            BlockingQueue<String> seen = new LinkedBlockingQueue<>();
            subscribe(broker, "c", 2, message -> {
                String body = new String(message.getData());
                seen.add(body + message.getAttempts());
                if (message.getAttempts() > 1) {
                    message.finish();
                } else if (body.equals("touched")) {
                    // The work takes twice the timeout.
                    for (int n = 0; n < 4; n++) {
                        sleep(500);
                        message.touch();
                    }
                    message.finish();
                    seen.add("done");
                }
            });
            publisher(broker).publish("t", List.of(bytes("touched"), bytes("left")));
            TreeSet<String> got = new TreeSet<>();
            for (int n = 0; n < 4; n++) {
                got.add(next(seen));
            }
            assertEquals(new TreeSet<>(List.of("touched1", "left1", "left2", "done")), got);
            stop();
        }
    }

    @Test
    public void bothEndsComeBackAfterKill9() throws Exception {
        try (Broker broker = new Broker(folder)) {
            BlockingQueue<byte[]> bodies = collect(broker, "c");
            publisher(broker).publish("t", bytes("before"));
            assertArrayEquals(bytes("before"), next(bodies));
            broker.kill();
            broker.run();
            publisher(broker).publish("t", bytes("after"));
            byte[] body = next(bodies);
            while (!new String(body).equals("after")) {
                // Messages whose FIN nsq-j had not sent yet come again.
                assertArrayEquals(bytes("before"), body);
                body = next(bodies);
            }
            stop();
        }
    }

    @Test
    public void aBacklogLargerThanMemoryArrivesWhole() throws Exception {
        final int batches = 64, size = 32;
        try (Broker broker = new Broker(folder, "-memory-limit", "8MiB")) {
            Publisher publisher = publisher(broker);
            TreeSet<Integer> wanted = new TreeSet<>(), got = new TreeSet<>();
            for (int batch = 0; batch < batches; batch++) {
                List<byte[]> bodies = new ArrayList<>();
                for (int n = 0; n < size; n++) {
                    wanted.add(batch * size + n);
                    bodies.add(bytes(String.format("%-16384d", batch * size + n)));
                }
                publisher.publish("t", bodies);
            }
            BlockingQueue<byte[]> bodies = collect(broker, "c");
            while (got.size() < wanted.size()) {
                got.add(Integer.valueOf(new String(next(bodies)).trim()));
            }
            assertEquals(wanted, got);
            stop();
        }
    }

    private static void sleep(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
