#!/usr/bin/env bash
# Apache Kafka in ZooKeeper mode, with coord in ZooKeeper's place.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
    cat <<'END'
Usage: on-coord.sh [--ensemble] [--zookeeper] [--dir DIR]

Starts coord and three brokers of Apache Kafka 3.9.1 on it, and uses and hurts them with Kafka's own tools: they
register and elect a controller, topics are made, configured and deleted, records produced and consumed; the controller
is killed, then the coord. Leaders must move and nothing that was acknowledged may be missing. Takes about 2 minutes.

  --ensemble   three coords, of which the leader is killed; otherwise one, which is killed and started again
  --zookeeper  Apache ZooKeeper in coord's place, to see what right looks like
  --dir DIR    where everything is written; a temporary directory unless told, removed if all went well

Needs a JDK of 11 or newer, Maven (the jars come from Maven Central the first time, 60 MB), 2 GB of memory, and coord
(COORD names it; built with cargo unless told). Ends with 1 at the first thing that is not as it should be.
END
}

coords=1 zookeeper=false dir=''
while (($#)); do
    case $1 in
        --ensemble) coords=3 && shift ;;
        --zookeeper) zookeeper=true && shift ;;
        --dir) dir=$2 && shift 2 ;;
        --help | -h) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done

BROKERS=3
RECORDS=3000
keep=$dir
dir=${dir:-$(mktemp -d)}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# shellcheck source=apache.bash
source "$here/apache.bash"
trap end_all EXIT
trap 'exit 130' INT TERM

# ---- what it takes ----

libs=$(jars)
[[ $zookeeper == true ]] || coord=$(program coord)
base=$(free_ports)

client_port() { echo $((base + $1)); }
broker_port() { echo $((base + 15 + $1)); }

connect='' bootstrap=''
for ((n = 1; n <= coords; n++)); do connect+=${connect:+,}127.0.0.1:$(client_port "$n"); done
for ((n = 1; n <= BROKERS; n++)); do bootstrap+=${bootstrap:+,}127.0.0.1:$(broker_port "$n"); done

write_log4j

# ---- nodes ----

start_coord() {
    local n=$1 home=$dir/coord-$1 peer
    mkdir -p "$home/data"
    {
        printf 'dataDir=%s\nclientPort=%s\ntickTime=1000\ninitLimit=10\nsyncLimit=5\n' "$home/data" "$(client_port "$n")"
        printf 'admin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n'
        ((coords == 1)) || for ((peer = 1; peer <= coords; peer++)); do
            printf 'server.%s=127.0.0.1:%s:%s\n' "$peer" $((base + 5 + peer)) $((base + 10 + peer))
        done
    } >"$home/zoo.cfg"
    ((coords == 1)) || echo "$n" >"$home/data/myid"
    if [[ $zookeeper == true ]]; then
        apache org.apache.zookeeper.server.quorum.QuorumPeerMain 256m "$home/zoo.cfg" >>"$home/log" 2>&1 &
    else
        "$coord" --config "$home/zoo.cfg" >>"$home/log" 2>&1 &
    fi
    pids[coord-$n]=$!
}

# Its answer to the four-letter word srvr, where it gives one.
srvr() {
    local answer
    answer=$(four_letter srvr "$(client_port "$1")") && [[ $answer == *Mode:* ]] && echo "$answer"
}

leader_of_coords() {
    local n
    for ((n = 1; n <= coords; n++)); do
        [[ ! $(srvr "$n" 2>/dev/null) =~ Mode:\ (leader|standalone) ]] || { echo "$n" && return; }
    done
    return 1
}

start_broker() {
    local n=$1 home=$dir/broker-$1
    mkdir -p "$home"
    cat >"$home/server.properties" <<END
broker.id=$n
listeners=PLAINTEXT://127.0.0.1:$(broker_port "$n")
log.dirs=$home/data
zookeeper.connect=$connect/kafka
zookeeper.session.timeout.ms=6000
zookeeper.connection.timeout.ms=30000
offsets.topic.replication.factor=3
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=3
group.initial.rebalance.delay.ms=0
min.insync.replicas=2
END
    apache kafka.Kafka 384m "$home/server.properties" >>"$home/log" 2>&1 &
    pids[broker-$n]=$!
}

zookeeper_shell() { kafka org.apache.zookeeper.ZooKeeperMain -server "$connect" "$@"; }

topics() { kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$bootstrap" "$@"; }

registered() { [[ $(zookeeper_shell ls /kafka/brokers/ids | tail -n 1) == "[$1]" ]]; }

controller() { zookeeper_shell get /kafka/controller | grep -oE '"brokerid":[0-9]+' | cut -d: -f2; }

all_in_sync() { [[ -z $(topics --describe --under-replicated-partitions) ]]; }

# Everyone leads but broker N.
leads_nothing() {
    local described
    described=$(topics --describe --topic orders) || return 1
    [[ $(grep -c 'Partition:' <<<"$described") == 12 ]] && ! grep -qE "Leader: ($1|none|-1)\b" <<<"$described"
}

produce() {
    kafka kafka.tools.ConsoleProducer --bootstrap-server "$bootstrap" --topic "$1" --request-required-acks all \
        --producer-property delivery.timeout.ms=60000 --producer-property request.timeout.ms=5000 \
        --producer-property linger.ms=5 --producer-property max.block.ms=60000
}

# The lines FROM to TO are all there, once.
consumed() {
    local topic=$1 from=$2 to=$3 records
    records=$(kafka org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$bootstrap" --topic "$topic" \
        --from-beginning --timeout-ms 60000 --max-messages "$to" --group "readers-of-$topic-$to" | sort -n)
    diff <(seq "$from" "$to") <(echo "$records") >"$dir/missing.diff" ||
        fail "of the records $from to $to of $topic, acknowledged all, some are missing or twice: $dir/missing.diff"
}

# The lines FROM to TO, slowly enough for a failure to be among them.
slowly() {
    local line
    for ((line = $1; line <= $2; line++)); do
        echo "$line"
        ((line % 20)) || sleep 0.1
    done
}
records_of() { kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$bootstrap" --topic "$1" | awk -F: '{ n += $3 } END { print n }'; }

holds_more_than() { (($(records_of orders) > $1)); }

# Lines FROM to TO into orders, in the background; returns when some have arrived.
start_producing() {
    slowly "$1" "$2" | produce orders >"$dir/producer" &
    pids[producer]=$!
    await "the producer's first records" holds_more_than $(($1 - 1))
}

# Returns when all were acknowledged.
end_producing() {
    wait "${pids[producer]}" || fail "the producer failed"
    unset 'pids[producer]'
    ! grep -q 'Error when sending' "$dir/tools.log" || fail "records were refused: $dir/tools.log"
}

# ---- the story ----

for ((n = 1; n <= coords; n++)); do start_coord "$n"; done
await "a leader among the coords" leader_of_coords
say "$coords coord(s) on $connect"

for ((n = 1; n <= BROKERS; n++)); do start_broker "$n"; done
for ((n = 1; n <= BROKERS; n++)); do await "broker $n" grep -q "id=$n\] started" "$dir/broker-$n/log"; done
await "three brokers below /brokers/ids" registered "1, 2, 3"
await "a controller" controller
say "three brokers registered; the controller is $(controller)"

topics --create --topic orders --partitions 12 --replication-factor 3 >/dev/null || fail "orders cannot be created"
kafka kafka.admin.ConfigCommand --bootstrap-server "$bootstrap" --alter --entity-type topics --entity-name orders \
    --add-config retention.ms=7200000 >/dev/null || fail "orders cannot be configured"
configured=$(kafka kafka.admin.ConfigCommand --bootstrap-server "$bootstrap" --describe --entity-type topics --entity-name orders)
[[ $configured == *retention.ms=7200000* ]] || fail "the configuration of orders is not what it was set to"
await "orders to be in sync" all_in_sync
seq 1 1000 | produce orders || fail "nothing can be produced"
consumed orders 1 1000
say "orders: created, configured; 1000 records produced and consumed by a group"

topics --create --topic passing --partitions 3 --replication-factor 3 >/dev/null || fail "passing cannot be created"
topics --delete --topic passing >/dev/null || fail "passing cannot be deleted"
gone() { [[ $(topics --list) != *passing* ]]; }
await "the end of passing" gone
say "a topic created and deleted"

victim=$(controller)
start_producing 1001 "$RECORDS"
kill -KILL "${pids[broker-$victim]}"
wait "${pids[broker-$victim]}" 2>/dev/null || true
killed=$SECONDS
await "leaders other than broker $victim" leads_nothing "$victim"
await "another controller" controller
say "controller $victim killed; every partition has another leader, after at most $((SECONDS - killed)) s"
end_producing
consumed orders 1 "$RECORDS"
say "$RECORDS records acknowledged, all there once"

start_broker "$victim"
await "broker $victim again" registered "1, 2, 3"
await "everything to be in sync" all_in_sync
say "broker $victim is back and in sync"

# The brokers keep their sessions over the loss of a coord, and need it for nothing that is there already.
expired() { cat "$dir"/broker-*/log | grep -c 'Session expired' || true; }
expired_before=$(expired)
start_producing $((RECORDS + 1)) $((2 * RECORDS))
leader=$(leader_of_coords)
kill -KILL "${pids[coord-$leader]}"
wait "${pids[coord-$leader]}" 2>/dev/null || true
killed=$SECONDS
((coords > 1)) || start_coord "$leader"
await "a leader among the coords" leader_of_coords
topics --create --topic after --partitions 6 --replication-factor 3 >/dev/null || fail "after cannot be created"
say "coord-$leader killed; a topic could be created $((SECONDS - killed)) s later"
end_producing
consumed orders 1 $((2 * RECORDS))
seq 500 | produce after || fail "nothing can be produced to the topic after"
consumed after 1 500
if ((coords > 1)); then
    start_coord "$leader"
    await "coord-$leader again" srvr "$leader"
fi
await "three brokers below /brokers/ids" registered "1, 2, 3"
for ((n = 1; n <= BROKERS; n++)); do runs "broker-$n" || fail "broker $n has ended"; done
[[ $(expired) == "$expired_before" ]] || fail "a broker's session expired when coord-$leader was killed"
say "brokers went on with their sessions; produced and consumed 3500 more"

leaving=$(controller)
kill -TERM "${pids[broker-$leaving]}"
wait "${pids[broker-$leaving]}" || (($? == 143)) || fail "broker $leaving did not end well"
unset "pids[broker-$leaving]"
await "leaders other than broker $leaving" leads_nothing "$leaving"
await "two brokers below /brokers/ids" registered "$(seq -s ', ' 1 $BROKERS | sed "s/$leaving, //; s/, $leaving\$//")"
say "controller $leaving told to end: its partitions and its znode are gone"

for ((n = 1; n <= BROKERS; n++)); do [[ $n == "$leaving" ]] || kill -TERM "${pids[broker-$n]}"; done
await "no broker below /brokers/ids" registered ""
say "all is well"
