# What the scripts of this folder share: Apache Kafka's jars, programs started and ended, and waiting with a limit.
# Read by them, not run. They set $root, and $dir, where everything is written, before they start anything.

LIMIT_S=120
declare -A pids=()
started=$SECONDS

say() { printf '%4d s  %s\n' $((SECONDS - started)) "$1"; }

fail() {
    printf '%s: %s\n  logs: %s\n' "$(basename "$0")" "$1" "$dir" >&2
    exit 1
}

# Ends what was started and removes what was written, but for a directory that was asked for and for what went wrong.
end_all() {
    local code=$? name
    for name in "${!pids[@]}"; do kill -KILL "${pids[$name]}" 2>/dev/null || true; done
    for name in "${!pids[@]}"; do wait "${pids[$name]}" 2>/dev/null || true; done
    [[ $code != 0 || $keep ]] || rm -rf "$dir"
}

# Waits until a command goes well.
await() {
    local what=$1 until=$((SECONDS + LIMIT_S))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || fail "waited $LIMIT_S s for $what"
        sleep 0.1
    done
}

runs() { kill -0 "${pids[$1]}" 2>/dev/null; }

# The directory of Apache Kafka's jars; they come from Maven Central the first time.
jars() {
    local libs=$root/target/apache-kafka-3.9.1
    command -v java >/dev/null || fail "java is missing: install a JDK of 17 or newer"
    if [[ ! -d $libs ]]; then
        command -v mvn >/dev/null || fail "mvn is missing: install Maven"
        mvn -q -B -f "$root/integration/apache-kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs"
    fi
    echo "$libs"
}

# A program of ours: the one that the variable of its name in capitals tells, or built.
program() {
    local given=${1^^}
    if [[ ${!given:-} ]]; then
        realpath "${!given}"
    else
        cargo build --manifest-path "$root/Cargo.toml" --quiet -p "$1" >&2
        realpath "${CARGO_TARGET_DIR:-$root/target}/debug/$1"
    fi
}

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

block_is_free() {
    local port
    for ((port = $1; port < $1 + 20; port++)); do is_free "$port" || return 1; done
}

# The first of 20 ports that are free.
free_ports() {
    local base
    for ((base = 24000; base < 32000; base += 20)); do
        ! block_is_free "$base" || { echo "$base" && return; }
    done
    fail "no free ports from 24000 to 32000"
}

# How Apache's servers and tools log.
write_log4j() {
    cat >"$dir/log4j.properties" <<'END'
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %m (%c)%n
END
    sed 's/INFO/WARN/; s/^log4j.appender.out=.*/&\nlog4j.appender.out.target=System.err/' "$dir/log4j.properties" \
        >"$dir/tools-log4j.properties"
}

# One of Kafka's tools, by its class, or a program of Java's own.
kafka() { java -Xmx256m "-Dlog4j.configuration=file:$dir/tools-log4j.properties" -cp "$libs/*" "$@" 2>>"$dir/tools.log"; }

# Becomes one of Apache's servers: its class, its heap, its configuration. To be run in the background, so that the
# process that was started is the server itself.
apache() {
    exec java "-Xmx$2" "-Dlog4j.configuration=file:$dir/log4j.properties" -cp "$libs/*" "$1" "$3"
}

# What a server answers to a four-letter word on that port.
four_letter() {
    local answer
    exec 3<>"/dev/tcp/127.0.0.1/$2" || return 1
    printf %s "$1" >&3
    # A server that is about to start may take the connection and say nothing.
    answer=$(timeout 2 cat <&3) || true
    exec 3>&-
    echo "$answer"
}
