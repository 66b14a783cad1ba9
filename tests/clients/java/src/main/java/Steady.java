import com.mongodb.ConnectionString;
import com.mongodb.MongoClientSettings;
import com.mongodb.client.ClientSession;
import com.mongodb.client.MongoClient;
import com.mongodb.client.MongoClients;
import com.mongodb.client.MongoDatabase;
import com.mongodb.client.model.Filters;
import com.mongodb.client.model.UpdateOptions;
import com.mongodb.client.model.Updates;
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.bson.Document;

/**
 * An application that works steadily until its stdin ends, and then says what it saw: one JSON line of
 * how much was done and of every error that came out of the driver. The arguments are the URI, how many
 * threads work, and whom to trust with TLS (a PEM file).
 */
public final class Steady {
    private final MongoClient client;
    private final MongoDatabase shop;
    private final AtomicInteger done = new AtomicInteger();
    private final List<String> errors = Collections.synchronizedList(new ArrayList<>());
    private volatile boolean going = true;

    private Steady(String uri, String authority) throws Exception {
        MongoClientSettings.Builder settings = MongoClientSettings.builder()
            .applyConnectionString(new ConnectionString(uri))
            .applicationName("steady");
        if (authority != null) {
            SSLContext context = trusting(authority);
            settings.applyToSslSettings(tls -> tls.enabled(true).context(context));
        }
        client = MongoClients.create(settings.build());
        shop = client.getDatabase("shop");
    }

    private static SSLContext trusting(String authority) throws Exception {
        KeyStore known = KeyStore.getInstance(KeyStore.getDefaultType());
        known.load(null, null);
        try (InputStream file = new FileInputStream(authority)) {
            known.setCertificateEntry(
                "authority", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust =
            TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(known);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    /** What no driver sends again is among it. */
    private void once(int kind, int n) {
        switch (kind) {
            case 0 ->
                // A cursor of several batches.
                shop.getCollection("orders").find().batchSize(10).limit(45).into(new ArrayList<>());
            case 1 ->
                shop.getCollection("orders").updateOne(
                    Filters.eq("n", n % 50), Updates.set("n", n % 50), new UpdateOptions().upsert(true));
            case 2 -> client.getDatabase("admin").runCommand(new Document("ping", 1));
            case 3 -> shop.getCollection("many").deleteMany(Filters.eq("n", n));
            default -> {
                try (ClientSession session = client.startSession()) {
                    session.withTransaction(() -> {
                        shop.getCollection("stock").insertOne(session, new Document("n", n));
                        shop.getCollection("moves").insertOne(session, new Document("n", n));
                        return null;
                    });
                }
            }
        }
    }

    private void work(int first) {
        for (int n = first; going; n++) {
            int kind = n % 5;
            try {
                once(kind, n);
            } catch (RuntimeException error) {
                errors.add("kind " + kind + ": " + Instant.now() + " " + error + ": " + error.getCause());
            }
            done.incrementAndGet();
        }
    }

    private void run(int threads) throws Exception {
        List<Thread> working = new ArrayList<>();
        for (int number = 0; number < threads; number++) {
            int first = number;
            working.add(new Thread(() -> work(first)));
        }
        working.forEach(Thread::start);
        System.in.readAllBytes();
        going = false;
        for (Thread one : working) {
            one.join();
        }
        client.close();
        System.out.println(new Document("done", done.get()).append("errors", errors).toJson());
    }

    public static void main(String[] args) throws Exception {
        new Steady(args[0], args.length > 2 ? args[2] : null).run(Integer.parseInt(args[1]));
    }
}
