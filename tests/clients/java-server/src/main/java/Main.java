import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

/**
 * mongo-java-server on a free port of 127.0.0.1, which it prints. The argument is the maxWireVersion
 * to announce: its own versions stop at 8, below the floor of newer drivers.
 */
public final class Main {
    private record Version(int getWireVersion) implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0, 0);
        }
    }

    public static void main(String[] args) throws Exception {
        MemoryBackend backend = new MemoryBackend();
        backend.version(new Version(Integer.parseInt(args[0])));
        MongoServer server = new MongoServer(backend);
        server.bind("127.0.0.1", 0);
        System.out.println(server.getLocalAddress().getPort());
        System.in.read();
        server.shutdownNow();
    }
}
