package libmq.example;

import io.grpc.TlsChannelCredentials;
import io.libmq.client.MqClient;
import java.io.File;
import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Arguments of both examples, and a client of the broker. */
final class Arguments {
    private final Map<String, String> values = new HashMap<>();

    /** Pairs of a name and a value. */
    Arguments(String[] words, List<String> required, List<String> optional) {
        for (int at = 0; at < words.length; at += 2) {
            if (!required.contains(words[at]) && !optional.contains(words[at])) {
                throw new IllegalArgumentException(words[at] + " is unknown");
            }
            if (at + 1 == words.length) {
                throw new IllegalArgumentException(words[at] + " needs a value");
            }
            values.put(words[at], words[at + 1]);
        }
        for (String name : required) {
            if (!values.containsKey(name)) {
                throw new IllegalArgumentException(name + " is missing");
            }
        }
    }

    String get(String name, String otherwise) {
        return values.getOrDefault(name, otherwise);
    }

    /**
     * Over TLS if --ca names the PEM file of who signed the broker's certificate; with the token in MQ_TOKEN,
     * if any.
     */
    MqClient client() throws IOException {
        MqClient.Builder client = MqClient.builder().broker(get("--address", "127.0.0.1:4155"));
        String token = System.getenv("MQ_TOKEN"), ca = get("--ca", null);
        if (token != null) {
            client.token(token);
        }
        if (ca != null) {
            client.credentials(TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build());
        }
        return client.build();
    }
}
