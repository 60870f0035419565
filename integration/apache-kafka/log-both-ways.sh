#!/usr/bin/env bash
# One log directory, served by Apache Kafka and by broker in turns.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
    cat <<'END'
Usage: log-both-ways.sh [--zookeeper | --coord] [--dir DIR]

One log directory goes from Apache Kafka 3.9.1 to broker and back, with the same server.properties: uncompressed and in
each codec, transactions committed and aborted, compacted, stamped by the broker, several segments. Each serves the same
records to consumers of either isolation level, writes some more, and is told to end, then killed. Apache's
kafka-dump-log reads every file of what broker leaves without a complaint, and dump-log prints what it prints. All of it
on Apache ZooKeeper, and then on coord. Takes about 3 minutes.

  --zookeeper, --coord  on that one alone
  --dir DIR             where everything is written; a temporary directory unless told, removed if all went well

Needs a JDK of 17 or newer, Maven (the jars come from Maven Central the first time, 60 MB), 1 GB of memory, and coord,
broker and admin (COORD, BROKER and ADMIN name them; built with cargo unless told). Ends with 1 at the first thing that
is not as it should be.
END
}

services=(zookeeper coord) dir=''
while (($#)); do
    case $1 in
        --zookeeper | --coord) services=("${1#--}") && shift ;;
        --dir) dir=$2 && shift 2 ;;
        --help | -h) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done

keep=$dir
dir=${dir:-$(mktemp -d)}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# shellcheck source=apache.bash
source "$here/apache.bash"
trap end_all EXIT
trap 'exit 130' INT TERM

libs=$(jars)
coord=$(program coord)
broker=$(program broker)
admin=$(program admin)
base=$(free_ports)
bootstrap=127.0.0.1:$((base + 1))
write_log4j
mkdir -p "$dir/classes"
javac -cp "$libs/*" -d "$dir/classes" "$here/Records.java" || fail "Records.java does not compile"

records() { java -Xmx256m "-Dlog4j.configuration=file:$dir/tools-log4j.properties" -cp "$dir/classes:$libs/*" Records "$@" 2>>"$dir/tools.log"; }

# ---- programs ----

start_service() {
    mkdir -p "$home/coordination"
    printf 'dataDir=%s\nclientPort=%s\ntickTime=1000\nadmin.enableServer=false\n4lw.commands.whitelist=*\n' \
        "$home/coordination" "$base" >"$home/zoo.cfg"
    if [[ $1 == zookeeper ]]; then
        apache org.apache.zookeeper.server.quorum.QuorumPeerMain 256m "$home/zoo.cfg" >>"$home/$1.log" 2>&1 &
    else
        "$coord" --config "$home/zoo.cfg" >>"$home/$1.log" 2>&1 &
    fi
    pids[service]=$!
    await "$1" four_letter ruok "$base"
}

# The same file for both.
write_properties() {
    cat >"$home/server.properties" <<END
broker.id=1
listeners=PLAINTEXT://$bootstrap
log.dirs=$home/data
zookeeper.connect=127.0.0.1:$base
zookeeper.session.timeout.ms=6000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
log.initial.task.delay.ms=0
log.retention.check.interval.ms=500
log.segment.delete.delay.ms=1000
log.cleaner.backoff.ms=500
END
}

registered() { kafka org.apache.zookeeper.ZooKeeperMain -server "127.0.0.1:$base" get /brokers/ids/1 | grep -q endpoints; }
gone() { ! registered; }

start_server() {
    who=$1
    if [[ $who == apache ]]; then
        apache kafka.Kafka 512m "$home/server.properties" >>"$home/apache.log" 2>&1 &
    else
        "$broker" --config "$home/server.properties" >>"$home/broker.log" 2>&1 &
    fi
    pids[server]=$!
    await "$who to serve" serving
}

serving() {
    runs server || fail "$who has ended: $home/$who.log"
    is_free $((base + 1)) && return 1
    kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$bootstrap" --list >/dev/null
}

# Told to end with that signal. A killed one's znode goes with its session.
end_server() {
    kill "-$1" "${pids[server]}"
    wait "${pids[server]}" 2>/dev/null || true
    unset 'pids[server]'
    await "the end of $who's session" gone
}

# ---- what is compared ----

# What the server at hand serves is kept as what the next one has to serve.
serves_as() {
    local isolation
    await "$who's cleaner" cleaned
    for isolation in read_uncommitted read_committed; do
        records read "$bootstrap" "$isolation" >"$home/$1.$isolation" || fail "$who does not serve all: $dir/tools.log"
        [[ ! ${2:-} ]] || diff "$home/$2.$isolation" "$home/$1.$isolation" >"$home/$1.$isolation.diff" ||
            fail "$who does not serve ($isolation) what was served before: $home/$1.$isolation.diff"
    done
    say "  $who serves $(wc -l <"$home/$1.read_uncommitted") lines, $(wc -l <"$home/$1.read_committed") of them committed"
}

# kafka-dump-log has no complaint about any file, and dump-log prints the same of each.
dumped() {
    local files
    files=$(find "$home/data" -path '*-[01]/*' \( -name '*.log' -o -name '*index' -o -name '*.snapshot' \) | sort | paste -sd,)
    [[ $files ]] || fail "there is nothing to dump in $home/data"
    java -Xmx256m "-Dlog4j.configuration=file:$dir/tools-log4j.properties" -cp "$libs/*" kafka.tools.DumpLogSegments \
        --deep-iteration --print-data-log --files "$files" >"$home/$1.dump" 2>"$home/$1.dump.errors"
    # Offsets are missing where compaction took the records.
    ! grep -vE '^  [0-9]+ is followed by [0-9]+$|^Non-consecutive offsets in .*/compacted-' "$home/$1.dump.errors" ||
        fail "kafka-dump-log complains: $home/$1.dump.errors"
    ! grep -qE 'isvalid: false|invalid bytes' "$home/$1.dump" || fail "kafka-dump-log finds damage: $home/$1.dump"
    "$admin" dump-log --deep-iteration --print-data-log --files "$files" >"$home/$1.dump.ours" \
        2>"$home/$1.dump.ours.errors" || fail "dump-log has failed: $home/$1.dump.ours.errors"
    diff -a "$home/$1.dump" "$home/$1.dump.ours" >"$home/$1.dump.diff" ||
        fail "dump-log prints something else: $home/$1.dump.diff"
    # Kafka tells of one file after the other in no order.
    diff <(sort "$home/$1.dump.errors") <(sort "$home/$1.dump.ours.errors") >"$home/$1.dump.diff" ||
        fail "dump-log complains of something else: $home/$1.dump.diff"
    say "  kafka-dump-log and dump-log print the same $(wc -l <"$home/$1.dump") lines of $(tr ',' '\n' <<<"$files" | wc -l) files"
}

# The cleaner has cleaned all that it may, so that what is served stays as it is.
cleaned() {
    local partition active
    for partition in 0 1; do
        active=$(find "$home/data/compacted-$partition" -name '*.log' | sort | tail -n 1 | xargs basename -s .log)
        ((10#$active > 0)) || return 1
        grep -qx "compacted $partition $((10#$active))" "$home/data/cleaner-offset-checkpoint" || return 1
    done
}

# ---- the story ----

for service in "${services[@]}"; do
    home=$dir/$service
    mkdir -p "$home"
    say "on $service"
    start_service "$service"
    write_properties

    start_server apache
    records create "$bootstrap" || fail "the topics cannot be created"
    records write "$bootstrap" 1 || fail "Apache takes no records"
    records transact "$bootstrap" 1 || fail "Apache takes no transactions"
    serves_as apache-1
    end_server TERM
    dumped apache-1

    start_server broker
    serves_as broker-1 apache-1
    records write "$bootstrap" 2 || fail "broker takes no records"
    serves_as broker-2
    end_server TERM
    dumped broker-2

    start_server apache
    serves_as apache-2 broker-2
    records write "$bootstrap" 3 || fail "Apache takes no records"
    records transact "$bootstrap" 3 || fail "Apache takes no transactions"
    serves_as apache-3
    end_server KILL

    start_server broker
    serves_as broker-3 apache-3
    records write "$bootstrap" 4 || fail "broker takes no records"
    serves_as broker-4
    end_server KILL

    start_server apache
    serves_as apache-4 broker-4
    end_server TERM
    dumped apache-4

    kill -TERM "${pids[service]}"
    wait "${pids[service]}" 2>/dev/null || true
    unset 'pids[service]'
done
say "all is well"
