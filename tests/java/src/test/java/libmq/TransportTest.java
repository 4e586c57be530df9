package libmq;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;
import static org.junit.Assume.assumeTrue;

import com.sproutsocial.nsq.Client;
import com.sproutsocial.nsq.Config;
import com.sproutsocial.nsq.DirectSubscriber;
import com.sproutsocial.nsq.Message;
import com.sproutsocial.nsq.NSQException;
import com.sproutsocial.nsq.Publisher;
import com.sproutsocial.nsq.Subscriber;
import com.sun.net.httpserver.HttpServer;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;
import org.junit.After;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** nsq-j over TLS, snappy and deflate, and with AUTH. */
public class TransportTest {
    /** How long a test waits for what must come: spent only on failure. */
    private static final int PATIENCE_S = 30;

    @Rule public final TemporaryFolder folder = new TemporaryFolder();

    /** The one client that nsq-j's subscribers without lookup have. */
    private final Client client = Client.getDefaultClient();
    private final List<Publisher> publishers = new ArrayList<>();
    private final List<Subscriber> subscribers = new ArrayList<>();

    @After
    public void stop() {
        publishers.forEach(Publisher::stop);
        subscribers.forEach(Subscriber::stop);
        client.setAuthSecret((byte[]) null);
        client.setSSLSocketFactory(null);
    }

    private static Config config(String transport) {
        Config config = new Config();
        config.setTlsV1(transport.contains("tls"));
        config.setSnappy(transport.contains("snappy"));
        config.setDeflate(transport.contains("deflate"));
        return config;
    }

    private Publisher publisher(Broker broker, String transport) {
        Publisher publisher = new Publisher(broker.address());
        publishers.add(publisher);
        publisher.setConfig(config(transport));
        return publisher;
    }

    private BlockingQueue<byte[]> collect(Broker broker, String transport) {
        BlockingQueue<byte[]> bodies = new LinkedBlockingQueue<>();
        Subscriber subscriber = new DirectSubscriber(1, broker.address());
        subscribers.add(subscriber);
        subscriber.setConfig(config(transport));
        // One at a time: nsq-j hands messages to a pool of threads.
        subscriber.setDefaultMaxInFlight(1);
        subscriber.subscribe("t", "c", (Message message) -> {
            bodies.add(message.getData());
            message.finish();
        });
        return bodies;
    }

    private static byte[] next(BlockingQueue<byte[]> queue) throws InterruptedException {
        byte[] next = queue.poll(PATIENCE_S, TimeUnit.SECONDS);
        assertNotNull("nothing came", next);
        return next;
    }

    /** Flags for TLS with a certificate of the test's own, which the client trusts. */
    private List<String> tlsFlags() throws Exception {
        File key = new File(folder.getRoot(), "key.pem"), cert = new File(folder.getRoot(), "cert.pem");
        List<String> made = new ArrayList<>(List.of("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"));
        made.addAll(List.of("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"));
        made.addAll(List.of("-keyout", key.getPath(), "-out", cert.getPath()));
        try {
            Process openssl = new ProcessBuilder(made).redirectErrorStream(true).start();
            openssl.getInputStream().readAllBytes();
            assertEquals("openssl", 0, openssl.waitFor());
        } catch (IOException e) {
            assumeTrue("no openssl to make a certificate", false);
        }
        client.setSSLSocketFactory(trusting(cert));
        return List.of("-tls-cert", cert.getPath(), "-tls-key", key.getPath());
    }

    private static SSLSocketFactory trusting(File cert) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (FileInputStream in = new FileInputStream(cert)) {
            store.setCertificateEntry("it", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context.getSocketFactory();
    }

    private void passes(String transport) throws Exception {
        try (Broker broker = new Broker(folder, tlsFlags().toArray(new String[0]))) {
            // What no codec makes smaller, and what becomes a thousandth.
            byte[] noise = new byte[100_000], same = new byte[100_000];
            new Random(1).nextBytes(noise);
            Arrays.fill(same, (byte) 'x');
            List<byte[]> bodies = List.of("small".getBytes(), noise, same, "last".getBytes());
            Publisher publisher = publisher(broker, transport);
            publisher.publish("t", bodies.get(0));
            publisher.publish("t", bodies.subList(1, 4));
            BlockingQueue<byte[]> got = collect(broker, transport);
            for (byte[] body : bodies) {
                assertArrayEquals(body, next(got));
            }
            stop();
        }
    }

    @Test
    public void snappy() throws Exception {
        passes("snappy");
    }

    @Test
    public void deflate() throws Exception {
        passes("deflate");
    }

    @Test
    public void tls() throws Exception {
        passes("tls");
    }

    @Test
    public void snappyInsideTls() throws Exception {
        passes("tls snappy");
    }

    @Test
    public void deflateInsideTls() throws Exception {
        passes("tls deflate");
    }

    /** Permits everything to who has the secret "hush", and keeps what it was asked. */
    private static HttpServer authServer(BlockingQueue<String> asked) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/auth", exchange -> {
            String query = exchange.getRequestURI().getQuery();
            asked.add(query);
            String all = "{\"topic\":\".*\",\"channels\":[\".*\"],\"permissions\":[\"subscribe\",\"publish\"]}";
            String granted = query.contains("secret=hush&") ? all : "";
            byte[] answer = ("{\"ttl\":60,\"authorizations\":[" + granted + "]}").getBytes();
            exchange.sendResponseHeaders(200, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        server.start();
        return server;
    }

    private void authorizes(String transport) throws Exception {
        BlockingQueue<String> asked = new LinkedBlockingQueue<>();
        HttpServer auth = authServer(asked);
        List<String> flags = new ArrayList<>(tlsFlags());
        flags.addAll(List.of("-auth-http-address", "127.0.0.1:" + auth.getAddress().getPort()));
        if (transport.contains("tls")) {
            flags.add("-tls-required");
        }
        try (Broker broker = new Broker(folder, flags.toArray(new String[0]))) {
            client.setAuthSecret("hush");
            publisher(broker, transport).publish("t", "x".getBytes());
            assertArrayEquals("x".getBytes(), next(collect(broker, transport)));
            String query = asked.take();
            assertTrue(query, query.contains("remote_ip=127.0.0.1"));
            assertTrue(query, query.endsWith("tls=" + transport.contains("tls")));
            client.setAuthSecret("wrong");
            Publisher refused = publisher(broker, transport);
            assertThrows(NSQException.class, () -> refused.publish("t", "x".getBytes()));
            stop();
        } finally {
            auth.stop(0);
        }
    }

    @Test
    public void auth() throws Exception {
        authorizes("");
    }

    @Test
    public void authInsideTls() throws Exception {
        authorizes("tls");
    }
}
