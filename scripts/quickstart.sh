#!/usr/bin/env bash
# From nothing to a cluster that has survived the loss of a leader: builds, starts 1 coord and 3 brokers, writes and
# reads 10,000 records, kills the leader of a partition, and writes and reads 10,000 more.
# Usage: quickstart.sh [--dir .cluster] [--base-port 9092] [--coord-port 2181]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

RECORDS=10000
SESSION_MS=2000
WAIT_S=30
dir=.cluster
base_port=9092
coord_port=2181
while (($#)); do
    case $1 in
    --dir) dir=${2:?} ;;
    --base-port) base_port=${2:?} ;;
    --coord-port) coord_port=${2:?} ;;
    *)
        echo "quickstart: unknown option $1; usage: quickstart.sh [--dir DIR] [--base-port PORT] [--coord-port PORT]" >&2
        exit 1
        ;;
    esac
    shift 2
done
export GREGOR_CLUSTER=$dir
bootstrap=localhost:$base_port,localhost:$((base_port + 1)),localhost:$((base_port + 2))
topic=quickstart-$(date +%Y%m%d-%H%M%S)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
doing=starting
number=0

step() {
    doing=$1
    number=$((number + 1))
    printf '\n[%d] %s\n' "$number" "$doing"
}

fail() {
    echo "quickstart: $1" >&2
    exit 1
}

# Runs a command whose output matters only where it fails.
quietly() {
    "$@" >"$work/output" 2>&1 ||
        fail "failed while $doing: $(grep -v '^[[:space:]]*$' "$work/output" | tail -n 1)"
}

since() { echo $(($(date +%s%3N) - $1)); }

describe() { scripts/bin/kafka-topics --bootstrap-server $bootstrap --describe --topic "$topic"; }

leader_of_partition_0() { describe 2>/dev/null | sed -n 's/.*Partition: 0\tLeader: \([0-9]*\).*/\1/p'; }

produce() {
    local started
    started=$(date +%s%3N)
    quietly scripts/bin/kafka-console-producer --bootstrap-server $bootstrap --topic "$topic" <"$1"
    echo "    $RECORDS records are acknowledged by all in-sync replicas, $(since "$started") ms after the command began."
}

# Reads everything back and compares it with the files that were sent. The topic has three partitions and order holds
# within each, so both sides are sorted.
consume_and_compare() {
    local count=$(($# * RECORDS))
    scripts/bin/kafka-console-consumer --bootstrap-server $bootstrap --topic "$topic" --from-beginning \
        --max-messages $count --timeout-ms $((WAIT_S * 1000)) >"$work/received" 2>"$work/output" ||
        fail "failed while $doing: $(tail -n 1 "$work/output")"
    sort "$work/received" >"$work/received.sorted"
    sort "$@" >"$work/sent.sorted"
    cmp -s "$work/sent.sorted" "$work/received.sorted" ||
        fail "what came back is not what was sent: $(comm -23 "$work/sent.sorted" "$work/received.sorted" | wc -l) of $count records are missing"
    echo "    $count records came back, each exactly once, byte for byte."
}

step "building the programs"
scripts/build.sh --always >/dev/null || fail "failed while $doing: see above"
echo "    coord, broker and admin are built."

step "starting 1 coord and 3 brokers in $dir (what runs there already is kept)"
echo "    A broker that dies without a word is missed when its session with coord ends. Kafka's default is 18 s;"
echo "    this cluster uses $SESSION_MS ms, so that you need not wait."
scripts/cluster.sh up --brokers 3 --base-port "$base_port" --coord-port "$coord_port" \
    --set zookeeper.session.timeout.ms=$SESSION_MS >"$work/output" 2>&1 ||
    fail "failed while starting the cluster: $(tail -n 1 "$work/output")"
sed 's/^/    /' "$work/output"

step "creating the topic $topic: 3 partitions, each on all 3 brokers"
quietly scripts/bin/kafka-topics --bootstrap-server $bootstrap --create --topic "$topic" \
    --partitions 3 --replication-factor 3
sed 's/^/    /' "$work/output"

step "producing $RECORDS records"
seq -f 'record %05.0f' 1 $RECORDS >"$work/first"
produce "$work/first"

step "consuming them and comparing"
consume_and_compare "$work/first"

step "describing the topic"
describe >"$work/output" 2>&1 || fail "failed while $doing: $(tail -n 1 "$work/output")"
cat "$work/output"

old=$(leader_of_partition_0) || old=
[[ -n $old ]] || fail "partition 0 of $topic has no leader"
step "killing broker $old, the leader of partition 0, with SIGKILL"
killed=$(date +%s%3N)
quietly scripts/cluster.sh kill "$old"
new=$old
while [[ -z $new || $new == "$old" ]]; do
    (($(since "$killed") < WAIT_S * 1000)) || fail "no new leader of partition 0 after $WAIT_S s"
    sleep 0.02
    new=$(leader_of_partition_0) || new=
done
echo "    Broker $new leads partition 0 now, $(since "$killed") ms after the kill (of which up to $SESSION_MS ms are the session)."

step "describing the topic again"
describe >"$work/output" 2>&1 || fail "failed while $doing: $(tail -n 1 "$work/output")"
cat "$work/output"

step "producing $RECORDS more"
seq -f 'record %05.0f' $((RECORDS + 1)) $((2 * RECORDS)) >"$work/second"
produce "$work/second"

step "consuming all of them and comparing"
consume_and_compare "$work/first" "$work/second"

again=./scripts/cluster.sh
[[ $dir == .cluster ]] || again="$again --dir $dir"
cat <<END

Proven: all $((2 * RECORDS)) acknowledged records are there, each once, though broker $old, which led partition 0, was killed with
SIGKILL between the two halves. The cluster goes on with two brokers. Try next:

  $again status      what runs
  $again start $old     bring broker $old back; it catches up and rejoins the ISR
  ./scripts/bin/kafka-topics --bootstrap-server localhost:$((base_port + new - 1)) --describe --topic $topic
  ./scripts/bin/kafka-console-producer --bootstrap-server localhost:$((base_port + new - 1)) --topic $topic
  ./scripts/bin/kafka-console-consumer --bootstrap-server localhost:$((base_port + new - 1)) --topic $topic --from-beginning
  $again down        end it; the data stays (reset removes it)
END
