import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.Scanner;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.client.ZKClientConfig;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/**
 * Uses coord through the Java ZooKeeper client, as Curator, Kafka and most of the world do.
 *
 * <p>Usage: java -cp JARS Client.java HOST:PORT,… Prints what went well, line by line. When it has printed "kill
 * HOST:PORT" it waits for a line on stdin, by which time that node is to be dead, and coming back if it is the only one;
 * the session must go on. Ends with "all is well", or with an exception.
 */
public class Client {
    static final int SESSION_TIMEOUT_MS = 10_000;
    static final int REQUEST_TIMEOUT_MS = 20_000;
    static final long LIMIT_S = 30;

    /** Tells which server it is connected to, which ZooKeeper keeps for its own tests. */
    static final class Session extends ZooKeeper {
        final Events events;

        private Session(String servers, Events events) throws Exception {
            super(servers, SESSION_TIMEOUT_MS, events);
            this.events = events;
        }

        static Session open(String servers) throws Exception {
            Session session = new Session(servers, new Events());
            session.events.awaitState(KeeperState.SyncConnected);
            return session;
        }

        String server() {
            SocketAddress address = testableRemoteSocketAddress();
            InetSocketAddress inet = (InetSocketAddress) Objects.requireNonNull(address, "a connection");
            return inet.getAddress().getHostAddress() + ":" + inet.getPort();
        }
    }

    /** A watcher whose events can be awaited. */
    static final class Events implements Watcher {
        private final BlockingQueue<WatchedEvent> queue = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            queue.add(event);
        }

        WatchedEvent next() throws Exception {
            WatchedEvent event = queue.poll(LIMIT_S, TimeUnit.SECONDS);
            check(event != null, "an event within " + LIMIT_S + " s");
            return event;
        }

        /** The next event, which must be this one. A connection that comes and goes does not matter. */
        void expect(EventType type, String path) throws Exception {
            WatchedEvent event = next();
            while (event.getType() == EventType.None) {
                event = next();
            }
            check(event.getType() == type && path.equals(event.getPath()), "expected " + type + " " + path + ": " + event);
        }

        void awaitState(KeeperState state) throws Exception {
            WatchedEvent event = next();
            while (event.getState() != state) {
                check(event.getState() != KeeperState.Expired, "a session that is not expired");
                event = next();
            }
        }

        void expectNothing() {
            queue.removeIf(event -> event.getType() == EventType.None);
            check(queue.isEmpty(), "no event: " + queue);
        }
    }

    interface Call {
        void run() throws Exception;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void refused(KeeperException.Code code, Call call) throws Exception {
        try {
            call.run();
        } catch (KeeperException e) {
            check(e.code() == code, "expected " + code + ": " + e);
            return;
        }
        throw new AssertionError("expected " + code);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String create(ZooKeeper session, String path, CreateMode mode) throws Exception {
        return session.create(path, bytes("0"), ZooDefs.Ids.OPEN_ACL_UNSAFE, mode);
    }

    static void nodes(Session session) throws Exception {
        Stat made = new Stat();
        session.create("/java", bytes("one"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, made);
        check(made.getCzxid() == made.getMzxid() && made.getDataLength() == 3, "the stat of a new node: " + made);
        check(session.setData("/java", bytes("two"), 0).getVersion() == 1, "version 1 after one change");
        Stat read = new Stat();
        check(Arrays.equals(session.getData("/java", false, read), bytes("two")), "the data that was set");
        check(read.getMzxid() > read.getCzxid(), "a later zxid for the change");
        refused(KeeperException.Code.BADVERSION, () -> session.setData("/java", bytes("three"), 0));
        refused(KeeperException.Code.NODEEXISTS, () -> create(session, "/java", CreateMode.PERSISTENT));
        refused(KeeperException.Code.NONODE, () -> session.getData("/none", false, null));
        check(session.exists("/none", false) == null, "no stat of a node that is not there");
        check(create(session, "/java/n-", CreateMode.PERSISTENT_SEQUENTIAL).equals("/java/n-0000000000"), "a sequence");
        create(session, "/java/e", CreateMode.EPHEMERAL);
        refused(KeeperException.Code.NOCHILDRENFOREPHEMERALS, () -> create(session, "/java/e/x", CreateMode.PERSISTENT));
        create(session, "/java/c", CreateMode.CONTAINER);
        List<String> children = session.getChildren("/java", false);
        Collections.sort(children);
        check(children.equals(List.of("c", "e", "n-0000000000")), "children: " + children);
        check(session.getAllChildrenNumber("/java") == 3, "three below /java");
        check(session.getEphemerals("/java").equals(List.of("/java/e")), "one ephemeral of this session");
        refused(KeeperException.Code.NOTEMPTY, () -> session.delete("/java", -1));
        session.sync("/java");
    }

    static void watches(Session session, Session other) throws Exception {
        other.sync("/java");
        Events data = new Events();
        Events children = new Events();
        Events exists = new Events();
        session.getData("/java", data, null);
        session.getChildren("/java", children);
        session.exists("/java/later", exists);
        other.setData("/java", bytes("three"), -1);
        create(other, "/java/later", CreateMode.PERSISTENT);
        data.expect(EventType.NodeDataChanged, "/java");
        children.expect(EventType.NodeChildrenChanged, "/java");
        exists.expect(EventType.NodeCreated, "/java/later");
        other.setData("/java", bytes("four"), -1);
        other.delete("/java/later", -1);
        session.sync("/java");
        data.expectNothing();
        children.expectNothing();
        exists.expectNothing();

        Events persistent = new Events();
        Events recursive = new Events();
        session.addWatch("/java", persistent, AddWatchMode.PERSISTENT);
        session.addWatch("/java", recursive, AddWatchMode.PERSISTENT_RECURSIVE);
        create(other, "/java/a", CreateMode.PERSISTENT);
        create(other, "/java/a/b", CreateMode.PERSISTENT);
        other.setData("/java/a/b", bytes("1"), -1);
        other.setData("/java", bytes("five"), -1);
        other.setData("/java", bytes("six"), -1);
        other.delete("/java/a/b", -1);
        other.delete("/java/a", -1);
        persistent.expect(EventType.NodeChildrenChanged, "/java");
        persistent.expect(EventType.NodeDataChanged, "/java");
        persistent.expect(EventType.NodeDataChanged, "/java");
        persistent.expect(EventType.NodeChildrenChanged, "/java");
        recursive.expect(EventType.NodeCreated, "/java/a");
        recursive.expect(EventType.NodeCreated, "/java/a/b");
        recursive.expect(EventType.NodeDataChanged, "/java/a/b");
        recursive.expect(EventType.NodeDataChanged, "/java");
        recursive.expect(EventType.NodeDataChanged, "/java");
        recursive.expect(EventType.NodeDeleted, "/java/a/b");
        recursive.expect(EventType.NodeDeleted, "/java/a");
        session.removeWatches("/java", recursive, Watcher.WatcherType.Any, false);
        recursive.expect(EventType.PersistentWatchRemoved, "/java");
        refused(
                KeeperException.Code.NOWATCHER,
                () -> session.removeWatches("/java", recursive, Watcher.WatcherType.Any, false));
        session.removeAllWatches("/java", Watcher.WatcherType.Any, false);
        persistent.expect(EventType.PersistentWatchRemoved, "/java");
        other.setData("/java", bytes("seven"), -1);
        session.sync("/java");
        persistent.expectNothing();
        recursive.expectNothing();
    }

    static void multis(Session session) throws Exception {
        List<OpResult> done = session.multi(List.of(
                Op.create("/multi", bytes("0"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.create("/multi/s-", bytes("0"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.check("/multi", 0),
                Op.setData("/multi", bytes("1"), 0),
                Op.delete("/multi/s-0000000000", 0)));
        check(((OpResult.CreateResult) done.get(1)).getPath().equals("/multi/s-0000000000"), "a sequence in a multi");
        check(((OpResult.SetDataResult) done.get(3)).getStat().getVersion() == 1, "a stat in a multi");
        try {
            session.multi(List.of(
                    Op.setData("/multi", bytes("2"), 1), Op.check("/multi", 7), Op.delete("/multi", -1)));
            throw new AssertionError("a multi with a wrong version went well");
        } catch (KeeperException.BadVersionException e) {
            List<Integer> errors = new ArrayList<>();
            for (OpResult result : e.getResults()) {
                errors.add(((OpResult.ErrorResult) result).getErr());
            }
            int inconsistent = KeeperException.Code.RUNTIMEINCONSISTENCY.intValue();
            check(errors.equals(List.of(0, KeeperException.Code.BADVERSION.intValue(), inconsistent)), "errors: " + errors);
        }
        check(Arrays.equals(session.getData("/multi", false, null), bytes("1")), "nothing of a multi that failed");
        List<OpResult> read = session.multi(List.of(Op.getData("/multi"), Op.getChildren("/java"), Op.getData("/none")));
        check(Arrays.equals(((OpResult.GetDataResult) read.get(0)).getData(), bytes("1")), "data by a multi");
        check(((OpResult.GetChildrenResult) read.get(1)).getChildren().contains("e"), "children by a multi");
        check(((OpResult.ErrorResult) read.get(2)).getErr() == KeeperException.Code.NONODE.intValue(), "an error in a multi");
    }

    static void acls(Session session, Session other) throws Exception {
        session.addAuthInfo("digest", bytes("ada:löwe"));
        session.create("/secret", bytes("s"), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        check(Arrays.equals(session.getData("/secret", false, null), bytes("s")), "the owner reads");
        // The other may be on a node that is behind.
        other.sync("/secret");
        refused(KeeperException.Code.NOAUTH, () -> other.getData("/secret", false, null));
        refused(KeeperException.Code.NOAUTH, () -> other.getACL("/secret", new Stat()));
        check(session.whoAmI().stream().anyMatch(info -> info.getUser().equals("ada")), "whoAmI: " + session.whoAmI());
        List<ACL> open = new ArrayList<>(session.getACL("/secret", new Stat()));
        open.add(new ACL(ZooDefs.Perms.READ, new Id("world", "anyone")));
        check(session.setACL("/secret", open, 0).getAversion() == 1, "aversion 1 after one change");
        other.sync("/secret");
        check(Arrays.equals(other.getData("/secret", false, null), bytes("s")), "anyone reads");
        refused(KeeperException.Code.NOAUTH, () -> other.setData("/secret", bytes("x"), -1));
        refused(
                KeeperException.Code.INVALIDACL,
                () -> other.create("/mine", null, ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
    }

    static void resume(Session session, Scanner input) throws Exception {
        long id = session.getSessionId();
        Events missed = new Events();
        session.getData("/multi", missed, null);
        session.events.queue.clear();
        System.out.println("kill " + session.server());
        input.nextLine();
        session.events.awaitState(KeeperState.Disconnected);
        session.events.awaitState(KeeperState.SyncConnected);
        check(session.getSessionId() == id, "the same session");
        check(session.getEphemerals("/java").equals(List.of("/java/e")), "its ephemeral is there");
        check(Arrays.equals(session.getData("/secret", false, null), bytes("s")), "it is authenticated again");
        session.setData("/multi", bytes("2"), -1);
        missed.expect(EventType.NodeDataChanged, "/multi");
    }

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0];
        System.setProperty(ZKClientConfig.ZOOKEEPER_REQUEST_TIMEOUT, "" + REQUEST_TIMEOUT_MS);
        Session session = Session.open(servers);
        try (Session other = Session.open(servers); Scanner input = new Scanner(System.in)) {
            nodes(session);
            System.out.println("nodes");
            watches(session, other);
            System.out.println("watches");
            multis(session);
            System.out.println("multis");
            acls(session, other);
            System.out.println("acls");
            resume(session, input);
            System.out.println("resumed on " + session.server());
        }
        try (Session last = Session.open(servers)) {
            last.sync("/");
            Events gone = new Events();
            check(last.exists("/java/e", gone) != null, "an ephemeral of a session that goes on");
            session.close();
            gone.expect(EventType.NodeDeleted, "/java/e");
        }
        System.out.println("all is well");
    }
}
