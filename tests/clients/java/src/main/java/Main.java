import com.mongodb.ConnectionString;
import com.mongodb.MongoBulkWriteException;
import com.mongodb.MongoClientSettings;
import com.mongodb.MongoCommandException;
import com.mongodb.MongoCredential;
import com.mongodb.MongoException;
import com.mongodb.ReadConcern;
import com.mongodb.TransactionOptions;
import com.mongodb.WriteConcern;
import com.mongodb.client.ClientSession;
import com.mongodb.client.MongoClient;
import com.mongodb.client.MongoClients;
import com.mongodb.client.MongoCollection;
import com.mongodb.client.MongoCursor;
import com.mongodb.client.MongoDatabase;
import com.mongodb.client.model.BulkWriteOptions;
import com.mongodb.client.model.DeleteManyModel;
import com.mongodb.client.model.DeleteOneModel;
import com.mongodb.client.model.InsertOneModel;
import com.mongodb.client.model.ReplaceOptions;
import com.mongodb.client.model.UpdateOneModel;
import com.mongodb.connection.ServerDescription;
import com.mongodb.event.CommandFailedEvent;
import com.mongodb.event.CommandListener;
import com.mongodb.event.CommandSucceededEvent;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.bson.BsonBinary;
import org.bson.BsonDocument;
import org.bson.Document;
import org.bson.codecs.DocumentCodec;
import org.bson.codecs.configuration.CodecRegistry;
import org.bson.json.JsonMode;
import org.bson.json.JsonWriterSettings;

/**
 * What the Java driver sees of a deployment: one JSON line per step, for comparison. The argument is
 * the URI.
 */
public final class Main {
    private static final JsonWriterSettings LINES =
        JsonWriterSettings.builder().outputMode(JsonMode.EXTENDED).build();
    private static final CodecRegistry CODECS = MongoClientSettings.getDefaultCodecRegistry();

    private final List<Object> commands = new ArrayList<>();
    private final String uri;
    private final MongoClient client;
    private final MongoDatabase db;
    private final MongoCollection<Document> c;

    private Main(String uri) {
        this.uri = uri;
        this.client = MongoClients.create(
            settings()
                .addCommandListener(new CommandListener() {
                    @Override
                    public void commandSucceeded(CommandSucceededEvent event) {
                        add(event.getCommandName(), event.getResponse().clone());
                    }

                    @Override
                    public void commandFailed(CommandFailedEvent event) {
                        add(event.getCommandName(), told(event.getThrowable()));
                    }
                })
                .build());
        this.db = client.getDatabase("app");
        this.c = db.getCollection("j");
    }

    private MongoClientSettings.Builder settings() {
        return MongoClientSettings.builder()
            .applyConnectionString(new ConnectionString(uri));
    }

    private synchronized void add(String name, Object saw) {
        commands.add(List.of(name, saw));
    }

    private synchronized List<Object> take() {
        List<Object> taken = new ArrayList<>(commands);
        commands.clear();
        return taken;
    }

    private static void emit(String step, Object saw) {
        System.out.println(
            new Document("step", step).append("saw", saw).toJson(LINES, new DocumentCodec(CODECS)));
    }

    private static Document told(Throwable error) {
        Document told = new Document("error", error.getClass().getSimpleName());
        if (error instanceof MongoException known) {
            told.append("code", known.getCode()).append("labels", new TreeSet<>(known.getErrorLabels()));
        }
        if (error instanceof MongoCommandException command) {
            return told.append("response", command.getResponse());
        }
        if (error instanceof MongoBulkWriteException bulk) {
            told.append("writeErrors", bulk.getWriteErrors().toString());
        }
        return told.append("text", String.valueOf(error.getMessage()));
    }

    private void step(String name, Callable<Object> run) {
        take();
        Object saw;
        try {
            saw = run.call();
        } catch (Exception error) {
            saw = told(error);
        }
        if (saw != null && !(saw instanceof Document || saw instanceof List || saw instanceof Number)) {
            saw = saw.toString();
        }
        emit(name, new Document("result", saw).append("commands", take()));
    }

    private static Document doc(Object... pairs) {
        Document document = new Document();
        for (int n = 0; n < pairs.length; n += 2) {
            document.append((String) pairs[n], pairs[n + 1]);
        }
        return document;
    }

    private static List<Document> all(Iterable<Document> found) {
        List<Document> list = new ArrayList<>();
        found.forEach(list::add);
        return list;
    }

    /** What a client of its own sees while its commands fail as {@code data} says, once. */
    private Object failing(Document data, Function<MongoCollection<Document>, Object> run) {
        MongoDatabase admin = client.getDatabase("admin");
        try (MongoClient other = MongoClients.create(
                settings()
                    .applicationName("failing")
                    .applyToServerSettings(s -> s.heartbeatFrequency(500, TimeUnit.MILLISECONDS))
                    .build())) {
            other.getDatabase("app").runCommand(doc("ping", 1));
            admin.runCommand(doc("configureFailPoint", "failCommand", "mode", doc("times", 1),
                "data", data.append("appName", "failing")));
            try {
                return run.apply(other.getDatabase("app").getCollection("j"));
            } finally {
                admin.runCommand(doc("configureFailPoint", "failCommand", "mode", "off"));
            }
        }
    }

    private void run() {
        MongoDatabase admin = client.getDatabase("admin");
        step("topology", () -> {
            admin.runCommand(doc("ping", 1));
            List<Object> servers = new ArrayList<>();
            for (ServerDescription s : client.getClusterDescription().getServerDescriptions()) {
                servers.add(doc("address", s.getAddress().toString(), "type", s.getType().name(),
                    "hosts", new TreeSet<>(s.getHosts()), "passives", new TreeSet<>(s.getPassives()),
                    "me", s.getCanonicalAddress(), "primary", s.getPrimary(), "set", s.getSetName(),
                    "wire", s.getMaxWireVersion()));
            }
            return doc("type", client.getClusterDescription().getType().name(), "servers", servers);
        });
        step("hello", () -> admin.runCommand(doc("hello", 1)));
        step("isMaster", () -> db.runCommand(doc("isMaster", 1)));
        step("who", () -> admin.runCommand(doc("connectionStatus", 1, "showPrivileges", true)));
        step("drop", () -> {
            for (String name : List.of("j", "jtx", "jw0")) {
                db.getCollection(name).drop();
            }
            take();
            return null;
        });
        step("insertOne", () -> c.insertOne(doc("_id", 1, "a", 1, "s", "åß漢😀")));
        step("insertMany", () -> {
            List<Document> docs = new ArrayList<>();
            for (int n = 2; n <= 200; n++) {
                docs.add(doc("_id", n, "a", n % 7));
            }
            return c.insertMany(docs).getInsertedIds().size();
        });
        for (int size : new int[] {1, 7, 50, 1000}) {
            step("batches of " + size, () -> all(c.find().sort(doc("_id", 1)).batchSize(size)));
        }
        step("sortSkipLimit",
            () -> all(c.find(doc("a", 3)).sort(doc("_id", -1)).skip(2).limit(5)));
        step("aggregate", () -> all(c.aggregate(List.of(
            doc("$group", doc("_id", "$a", "n", doc("$sum", 1))), doc("$sort", doc("_id", 1))))));
        step("counts", () -> List.of(c.countDocuments(doc("a", 1)), c.estimatedDocumentCount()));
        step("updateMany", () -> c.updateMany(doc("a", 2), doc("$inc", doc("b", 1))));
        step("upsert",
            () -> c.replaceOne(doc("_id", 9000), doc("b", 1), new ReplaceOptions().upsert(true)));
        step("deleteOne", () -> c.deleteOne(doc("_id", 9000)));
        step("findOneAndUpdate",
            () -> c.findOneAndUpdate(doc("_id", 2), doc("$set", doc("z", 1))));
        step("bulk", () -> c.bulkWrite(List.of(
            new InsertOneModel<>(doc("_id", 1000)),
            new UpdateOneModel<>(doc("_id", 1000), doc("$set", doc("x", 1))),
            new InsertOneModel<>(doc("_id", 1000)),
            new DeleteOneModel<>(doc("_id", 1000)))));
        step("bulkUnordered", () -> c.bulkWrite(List.of(
            new InsertOneModel<>(doc("_id", 1001)),
            new InsertOneModel<>(doc("_id", 1001)),
            new DeleteManyModel<>(doc("_id", doc("$gte", 1000)))),
            new BulkWriteOptions().ordered(false)));
        step("duplicateKey", () -> c.insertOne(doc("_id", 1)));
        step("unknownCommand", () -> db.runCommand(doc("noSuchCommand", 1)));
        step("badOperator", () -> all(c.find(doc("a", doc("$noSuchOperator", 1)))));
        step("killedCursor", () -> {
            try (MongoCursor<Document> cursor =
                    c.find().sort(doc("_id", 1)).batchSize(2).iterator()) {
                List<Object> seen = new ArrayList<>(List.of(cursor.next(), cursor.next()));
                long id = cursor.getServerCursor().getId();
                seen.add(db.runCommand(doc("killCursors", "j", "cursors", List.of(id))).size());
                emit("killed", seen);
                return cursor.next();
            }
        });
        step("unknownCursor",
            () -> db.runCommand(doc("getMore", 12345678901L, "collection", "j")));
        step("unacknowledged", () -> {
            try (MongoClient other = MongoClients.create(
                    settings().applyToConnectionPoolSettings(p -> p.maxSize(1)).build())) {
                MongoCollection<Document> plain = other.getDatabase("app").getCollection("jw0");
                MongoCollection<Document> w0 = plain.withWriteConcern(WriteConcern.UNACKNOWLEDGED);
                for (int n = 0; n < 20; n++) {
                    w0.insertOne(doc("_id", n));
                }
                w0.insertOne(doc("_id", 1));
                w0.deleteOne(doc("_id", 3));
                return plain.countDocuments();
            }
        });
        step("writeConcernError", () -> c.withWriteConcern(
            new WriteConcern(9).withWTimeout(50, TimeUnit.MILLISECONDS)).insertOne(doc("_id", "w9")));
        MongoCollection<Document> tx = db.getCollection("jtx");
        step("transaction", () -> {
            db.createCollection("jtx");
            try (ClientSession session = client.startSession()) {
                session.startTransaction();
                tx.insertOne(session, doc("_id", 1));
                List<Document> inside = all(tx.find(session));
                List<Document> outside = all(tx.find());
                session.commitTransaction();
                session.commitTransaction();
                return List.of(inside, outside, all(tx.find()));
            }
        });
        step("transactionAborted", () -> {
            try (ClientSession session = client.startSession()) {
                session.startTransaction(
                    TransactionOptions.builder().readConcern(ReadConcern.SNAPSHOT).build());
                tx.insertOne(session, doc("_id", 2));
                session.abortTransaction();
                return all(tx.find());
            }
        });
        step("transactionFailedInside", () -> {
            try (ClientSession session = client.startSession()) {
                return session.withTransaction(() -> tx.insertOne(session, doc("_id", 1)));
            }
        });
        step("transactionRetried", () -> {
            int[] attempts = {0};
            try (ClientSession session = client.startSession()) {
                return session.withTransaction(() -> {
                    attempts[0]++;
                    tx.insertOne(session, doc("_id", "try " + attempts[0]));
                    if (attempts[0] < 3) {
                        MongoException error = new MongoException("transient");
                        error.addLabel(MongoException.TRANSIENT_TRANSACTION_ERROR_LABEL);
                        throw error;
                    }
                    return attempts[0];
                });
            }
        });
        step("retriedWrite", () -> {
            Document lsid = doc("id", new BsonBinary(java.util.UUID.randomUUID()));
            Document insert = doc("insert", "j", "documents", List.of(doc("_id", "retry")),
                "lsid", lsid, "txnNumber", 1L);
            return List.of(db.runCommand(insert), db.runCommand(insert));
        });
        step("hangUpOnWrite", () -> failing(doc("failCommands", List.of("insert"),
            "closeConnection", true), n -> n.insertOne(doc("_id", "f1"))));
        step("notPrimary", () -> failing(doc("failCommands", List.of("insert"), "errorCode", 10107,
            "errorLabels", List.of("RetryableWriteError")), n -> n.insertOne(doc("_id", "f2"))));
        step("hangUpOnRead", () -> failing(doc("failCommands", List.of("find"),
            "closeConnection", true), n -> n.find(doc("_id", 1)).first()));
        step("writeConcernFailed", () -> failing(doc("failCommands", List.of("insert"),
            "writeConcernError", doc("code", 64, "errmsg", "waiting timed out")),
            n -> n.insertOne(doc("_id", "f3"))));
        step("refreshAndEnd", () -> {
            try (ClientSession session = client.startSession()) {
                BsonDocument id = session.getServerSession().getIdentifier();
                return List.of(admin.runCommand(doc("refreshSessions", List.of(id))),
                    admin.runCommand(doc("endSessions", List.of(id))));
            }
        });
        step("startSession", () -> admin.runCommand(doc("startSession", 1)));
        step("badSessionList", () -> admin.runCommand(doc("killSessions", List.of(doc("id", 1)))));
        step("large", () -> {
            c.insertOne(doc("_id", "large", "s", "y".repeat(10_000_000)));
            Document found = c.find(doc("_id", "large")).first();
            take();
            return found == null ? 0 : found.getString("s").length();
        });
        step("wrongPassword", () -> {
            try (MongoClient other = MongoClients.create(settings().credential(
                    MongoCredential.createCredential("alice", "app", "wrong".toCharArray())).build())) {
                return other.getDatabase("app").runCommand(doc("ping", 1));
            }
        });
        step("parallel", () -> {
            ExecutorService pool = Executors.newFixedThreadPool(20);
            List<Future<Boolean>> found = new ArrayList<>();
            for (int n = 2; n < 152; n++) {
                int id = n;
                found.add(pool.submit(() -> c.find(doc("_id", id)).first().getInteger("_id") == id));
            }
            int right = 0;
            for (Future<Boolean> one : found) {
                right += one.get() ? 1 : 0;
            }
            pool.shutdown();
            take();
            return right;
        });
        take();
        client.close();
        emit("closed", take());
    }

    public static void main(String[] args) {
        new Main(args[0]).run();
    }
}
