#!/usr/bin/env bash
# kazoo's own test suite against coord, or against Apache ZooKeeper for comparison.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
    cat <<'END'
Usage: suite.sh [--nodes N] [--zookeeper VERSION] [--out DIR] [-- PYTEST ARGUMENTS]

Runs kazoo's own test suite against an ensemble of N coords (3 unless told), and says what passed, failed and was
skipped. Takes about 8 minutes. Ends with 1 if something failed that known-failures.txt does not name.

  --nodes N            1, 3 or 5; with fewer than 3 the tests of read-only mode cannot pass
  --zookeeper VERSION  Apache ZooKeeper of that version (3.9.3, say) from Maven Central instead of coord
  --out DIR            where the outcomes and the servers' logs go; target/kazoo-suite unless told
  -- ARGUMENTS         go to pytest, as in: suite.sh -- -k test_lock

Needs Python 3 with venv, and PyPI the first time: kazoo and what its tests need go into target/kazoo-venv. Needs coord
(COORD names it; built with cargo unless told). With --zookeeper: Java 11 or newer and Maven.
END
}

nodes=3 zookeeper='' out=$root/target/kazoo-suite
while (($#)); do
    case $1 in
        --nodes) nodes=$2 && shift 2 ;;
        --zookeeper) zookeeper=$2 && shift 2 ;;
        --out) out=$2 && shift 2 ;;
        --help | -h) usage && exit 0 ;;
        --) shift && break ;;
        *) usage >&2 && exit 2 ;;
    esac
done

venv=$root/target/kazoo-venv
if ! "$venv/bin/python3" -c 'import kazoo, jks, pytest_timeout' 2>/dev/null; then
    python3 -m venv "$venv"
    # pyOpenSSL 25 has lost a function that kazoo's harness calls.
    "$venv/bin/pip" install -q 'kazoo==2.11.0' pytest pytest-timeout pyjks 'pyOpenSSL<25' objgraph gevent eventlet pure-sasl
fi
# The servers' own java, where there is one, is not to be found before ours.
export PATH=$venv/bin:$PATH
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [[ $zookeeper ]]; then
    jars=$root/target/zookeeper-$zookeeper
    [[ -d $jars ]] || mvn -q -B -f "$root/integration/java/pom.xml" -Dzookeeper.version="$zookeeper" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$jars"
    export ZOOKEEPER_CLASSPATH=$jars/'*' ZOOKEEPER_VERSION=$zookeeper
else
    if [[ ! ${COORD:-} ]]; then
        cargo build --manifest-path "$root/Cargo.toml" --quiet -p coord
        COORD=${CARGO_TARGET_DIR:-$root/target}/debug/coord
    fi
    COORD=$(realpath "$COORD")
    export COORD COORD_LOGS=$out PATH=$here:$PATH
    # Which protocol the suite may expect of the server; the class path has only to be there.
    export ZOOKEEPER_CLASSPATH=none ZOOKEEPER_VERSION=3.9.3
    rm -f "$out"/coord-*.log
fi

export ZOOKEEPER_CLUSTER_SIZE=$nodes
ZOOKEEPER_PORT_OFFSET=$(python3 "$here/outcomes.py" free-ports "$nodes")
export ZOOKEEPER_PORT_OFFSET
cd "$out"
# Without CI, which makes the suite wait for slower machines and test its own build.
env -u CI python3 -m pytest --pyargs kazoo.tests -o addopts= -p no:cacheprovider --timeout=120 -q --tb=short \
    --junitxml="$out/outcomes.xml" "$@" >"$out/pytest.txt" 2>&1 || true
known=()
[[ $zookeeper ]] || known=("$here/known-failures.txt")
python3 "$here/outcomes.py" report "$out/outcomes.xml" "${known[@]}"
