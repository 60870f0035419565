#!/usr/bin/env bash
# Apache ZooKeeper and coord side by side, on this machine, with the same client, in one run of about five minutes:
# throughput and latency of one server and of an ensemble of three, start-up time, memory, and the time to a new leader
# after SIGKILL. Prints a Markdown table.
#
# Needs a JDK (17 or so) and Maven, which fetches Apache ZooKeeper from Maven Central, once, into the cache directory.
# Usage: coord.sh [--dir DIR on the disk to measure] [options of coord-bench, see --help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gregor-bench
zookeeper=3.9.3
limit_s=900

fail() {
    echo "coord.sh: $1" >&2
    exit 1
}

dir=
options=()
while (($#)); do
    case $1 in
    --dir)
        dir=${2:?coord.sh: --dir needs a directory}
        shift
        ;;
    *) options+=("$1") ;;
    esac
    shift
done

command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs"
command -v java >/dev/null || fail "java is missing: install a JDK, Debian's is openjdk-17-jdk-headless"
command -v mvn >/dev/null || fail "mvn is missing: install Maven, Debian's package is maven"

jars=$cache/zookeeper-$zookeeper
if [[ ! -f $jars/complete ]]; then
    echo "Fetching Apache ZooKeeper $zookeeper from Maven Central into $jars" >&2
    rm -rf "$jars"
    mkdir -p "$jars"
    # The server needs metrics-core and snappy-java too, which its own description leaves to whoever packages it.
    cat >"$jars/pom.xml" <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bench</groupId><artifactId>zookeeper</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId><version>$zookeeper</version>
    </dependency>
    <dependency>
      <groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId><version>4.1.12.1</version>
    </dependency>
    <dependency>
      <groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId><version>1.1.10.5</version>
    </dependency>
    <dependency>
      <groupId>ch.qos.logback</groupId><artifactId>logback-classic</artifactId><version>1.2.13</version>
    </dependency>
  </dependencies>
</project>
END
    cat >"$jars/logback.xml" <<END
<configuration>
  <appender name="CONSOLE" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d [%t] %p %c - %m%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="CONSOLE"/></root>
</configuration>
END
    mvn -q -B -f "$jars/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DoutputDirectory="$jars" >&2 || fail "Maven cannot fetch Apache ZooKeeper $zookeeper"
    touch "$jars/complete"
fi

echo "Building coord and coord-bench (release); the first time takes a few minutes." >&2
(cd "$root" && cargo build --quiet --release -p coord -p integration --bin coord --bin coord-bench)
programs=${CARGO_TARGET_DIR:-$root/target}/release

work=$(mktemp -d -p "${dir:-${TMPDIR:-/tmp}}" coord-bench.XXXXXX)
child=
at_exit() {
    # The servers end with coord-bench, whatever ends it.
    [[ -z $child ]] || { kill "$child" 2>/dev/null && wait "$child" 2>/dev/null; } || true
    rm -rf "$work"
}
trap at_exit EXIT
trap 'exit 130' INT TERM

timeout "$limit_s" "$programs/coord-bench" --coord "$programs/coord" --zookeeper "$jars" --dir "$work" "${options[@]}" &
child=$!
code=0
wait "$child" || code=$?
child=
((code != 124)) || fail "not done after $limit_s s"
exit "$code"
