import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Fills topics with one of everything that a log can hold, and prints what topics hold.
 *
 * <p>Usage: java -cp JARS Records.java create HOST:PORT | write HOST:PORT ROUND | transact HOST:PORT ROUND | read
 * HOST:PORT ISOLATION. What is written depends on the round alone. What is read is a line for each record, offsets and
 * timestamps included, so that two brokers that serve the same log print the same.
 */
public class Records {
    static final int LIMIT_MS = 60_000;
    static final int PER_ROUND = 1_500;
    /** Rounds lie this far apart in the records' own time, so that it does not depend on when they run. */
    static final long ROUND_MS = 60_000;

    /** What is written without compression, and with each codec. */
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};

    static final String COMPACTED = "compacted";
    static final String TRANSACTIONS = "transactions";

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[1];
        switch (arguments[0]) {
            case "create" -> create(servers);
            case "write" -> write(servers, Integer.parseInt(arguments[2]));
            case "transact" -> transact(servers, Integer.parseInt(arguments[2]));
            case "read" -> read(servers, arguments[2]);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    static Properties properties(String servers) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", servers);
        properties.put("request.timeout.ms", String.valueOf(LIMIT_MS / 2));
        properties.put("default.api.timeout.ms", String.valueOf(LIMIT_MS));
        return properties;
    }

    static NewTopic topic(String name, Map<String, String> configs) {
        Map<String, String> all = new HashMap<>(configs);
        all.putIfAbsent("segment.bytes", "50000");
        return new NewTopic(name, 2, (short) 1).configs(all);
    }

    static void create(String servers) throws Exception {
        List<NewTopic> topics = new ArrayList<>();
        for (String codec : CODECS) {
            topics.add(topic("codec-" + codec, Map.of()));
        }
        topics.add(topic("stamped", Map.of("message.timestamp.type", "LogAppendTime")));
        topics.add(topic(TRANSACTIONS, Map.of()));
        topics.add(
                topic(
                        COMPACTED,
                        Map.of(
                                "cleanup.policy", "compact",
                                "min.cleanable.dirty.ratio", "0.01",
                                "segment.bytes", "20000")));
        try (Admin admin = Admin.create(properties(servers))) {
            admin.createTopics(topics).all().get(LIMIT_MS, TimeUnit.MILLISECONDS);
        }
    }

    static KafkaProducer<byte[], byte[]> producer(String servers, Map<String, Object> more) {
        Properties properties = properties(servers);
        properties.put("delivery.timeout.ms", String.valueOf(LIMIT_MS));
        properties.put("max.block.ms", String.valueOf(LIMIT_MS));
        properties.put("linger.ms", "5");
        properties.putAll(more);
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int round, int number, String value) {
        byte[] key = number % 5 == 4 ? null : bytes("key-" + number % 97);
        if (key == null && topic.equals(COMPACTED)) {
            key = bytes("key-4");
        }
        // A timestamp of the record's own; every ninth goes back in time.
        long timestamp = System.currentTimeMillis() - (number % 9 == 0 ? ROUND_MS : 0);
        ProducerRecord<byte[], byte[]> record =
                new ProducerRecord<>(topic, number % 2, timestamp, key, value == null ? null : bytes(value));
        for (int header = 0; header < number % 3; header++) {
            record.headers().add("header-" + header, header == 0 ? null : bytes("of round " + round));
        }
        return record;
    }

    static void write(String servers, int round) {
        for (String codec : CODECS) {
            Map<String, Object> compressed = Map.of("compression.type", codec);
            try (KafkaProducer<byte[], byte[]> producer = producer(servers, compressed)) {
                for (int number = 0; number < PER_ROUND; number++) {
                    String value = "round " + round + " number " + number + " in " + codec + " ".repeat(number % 50);
                    producer.send(record("codec-" + codec, round, number, value), Records::check);
                }
            }
        }
        try (KafkaProducer<byte[], byte[]> producer = producer(servers, Map.of("enable.idempotence", false))) {
            for (int number = 0; number < PER_ROUND; number++) {
                producer.send(record("stamped", round, number, "round " + round + " " + number), Records::check);
                // A tombstone now and then.
                String value = number % 31 == 0 ? null : "round " + round + " " + number;
                producer.send(record(COMPACTED, round, number, value), Records::check);
            }
        }
    }

    /** Commits, aborts, commits, …; the last transaction of a round is an aborted one. */
    static void transact(String servers, int round) {
        Map<String, Object> transactional = Map.of("transactional.id", "writer", "compression.type", "lz4");
        try (KafkaProducer<byte[], byte[]> producer = producer(servers, transactional)) {
            producer.initTransactions();
            for (int transaction = 0; transaction < 12; transaction++) {
                producer.beginTransaction();
                for (int number = 0; number < 100; number++) {
                    String value = "round " + round + " transaction " + transaction + " " + number;
                    producer.send(record(TRANSACTIONS, round, number, value), Records::check);
                    if (number % 10 == 0) {
                        producer.send(record(COMPACTED, round, number, value), Records::check);
                    }
                }
                if (transaction % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.flush();
                    producer.abortTransaction();
                }
            }
        }
    }

    static void check(Object metadata, Exception error) {
        if (error != null) {
            System.err.println("a record was refused: " + error);
            Runtime.getRuntime().halt(1);
        }
    }

    static void read(String servers, String isolation) {
        Properties properties = properties(servers);
        properties.put("isolation.level", isolation);
        properties.put("enable.auto.commit", "false");
        properties.put("max.poll.records", "10000");
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            TreeMap<String, List<PartitionInfo>> topics = new TreeMap<>(consumer.listTopics());
            for (Map.Entry<String, List<PartitionInfo>> topic : topics.entrySet()) {
                if (topic.getKey().startsWith("__")) {
                    continue;
                }
                for (int partition = 0; partition < topic.getValue().size(); partition++) {
                    read(consumer, new TopicPartition(topic.getKey(), partition));
                }
            }
        }
    }

    static void read(KafkaConsumer<byte[], byte[]> consumer, TopicPartition partition) {
        List<TopicPartition> one = List.of(partition);
        long begin = consumer.beginningOffsets(one).get(partition);
        long end = consumer.endOffsets(one).get(partition);
        System.out.println(partition + " from " + begin + " to " + end);
        consumer.assign(one);
        consumer.seekToBeginning(one);
        long limit = System.currentTimeMillis() + LIMIT_MS;
        long middle = -1;
        while (consumer.position(partition) < end) {
            if (System.currentTimeMillis() > limit) {
                throw new IllegalStateException(partition + " stands still at " + consumer.position(partition));
            }
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                if (record.offset() < end) {
                    print(record);
                    middle = record.offset() >= (begin + end) / 2 && middle < 0 ? record.timestamp() : middle;
                }
            }
        }
        // Apache takes an empty segment, as compaction leaves one, for as young as its file: it looks there, and finds nothing.
        if (middle >= 0 && !partition.topic().equals(COMPACTED)) {
            System.out.println(partition + " at " + middle + ": " + consumer.offsetsForTimes(Map.of(partition, middle)));
        }
    }

    static void print(ConsumerRecord<byte[], byte[]> record) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(' ').append(header.key()).append('=').append(text(header.value()));
        }
        System.out.println(
                record.topic() + "-" + record.partition() + " " + record.offset() + " " + record.timestampType() + " "
                        + record.timestamp() + " " + text(record.key()) + " " + text(record.value()) + headers);
    }

    static String text(byte[] bytes) {
        return bytes == null ? "null" : new String(bytes, StandardCharsets.UTF_8);
    }
}
