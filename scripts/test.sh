#!/usr/bin/env bash
# The one gate: format, lints (warnings are errors), and every test there is, from units to containers.
#
# It installs what it needs where it may (as root, or with a sudo that asks for no password). What is missing and cannot
# be installed is skipped and named in the last lines; with CI=true a skip is a failure. It starts a container engine
# where none answers, and stops what it started.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

LIMIT_S=1740
IMAGE=gregor:test
target=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
export GREGOR_BIN=$target/debug
export GREGOR_SKIPPED=$target/skipped
mkdir -p "$target"
: >"$GREGOR_SKIPPED"

started=$SECONDS
child=
engine_pid_file=

heading() { printf '\n== %4d s == %s\n' $((SECONDS - started)) "$1"; }

fail() {
    printf '\ntest.sh: %s\n' "$1" >&2
    exit 1
}

# Runs a command within what is left of the time, in a process group of its own that ends with it.
bounded() {
    local left=$((LIMIT_S - (SECONDS - started)))
    ((left > 0)) || fail "no time is left of $LIMIT_S s"
    timeout --kill-after=20 "$left" "$@" &
    child=$!
    local code=0
    wait "$child" || code=$?
    child=
    ((code != 124)) || fail "not done after $LIMIT_S s: $*"
    return "$code"
}

step() {
    heading "$1"
    shift
    bounded "$@" || fail "failed: $*"
}

may_be_root() { [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null; }

as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n "$@"; fi; }

end_engine() {
    [[ -n $engine_pid_file ]] || return 0
    local pid
    pid=$(cat "$engine_pid_file" 2>/dev/null) || return 0
    as_root kill "$pid" 2>/dev/null || true
    for _ in $(seq 150); do
        [[ -d /proc/$pid ]] || break
        sleep 0.1
    done
    rm -f "$engine_pid_file"
}

at_exit() {
    [[ -z $child ]] || { kill "$child" 2>/dev/null && wait "$child" 2>/dev/null; } || true
    end_engine
}
trap at_exit EXIT
trap 'exit 130' INT TERM

# Debian's packages for what is missing.
install_packages() {
    local missing=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v make >/dev/null || missing+=(make)
    command -v kcat >/dev/null || missing+=(kcat)
    if ! docker version >/dev/null 2>&1; then
        command -v dockerd >/dev/null || missing+=(docker.io)
        command -v iptables >/dev/null || missing+=(iptables)
    fi
    has_kazoo || python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    command -v java >/dev/null || missing+=(openjdk-17-jdk-headless)
    has_java_zookeeper || command -v mvn >/dev/null || missing+=(maven)
    ((${#missing[@]})) || return 0
    if ! command -v apt-get >/dev/null || ! may_be_root; then
        echo "Missing, and not to be installed here: ${missing[*]}"
        return 0
    fi
    echo "Installing ${missing[*]}"
    as_root apt-get update -qq || true
    for package in "${missing[@]}"; do
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
            echo "$package cannot be installed"
    done
    # Newer Debians have the engine's client in a package of its own.
    command -v docker >/dev/null ||
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker-cli >/dev/null || true
}

has_kazoo() { "$root/target/venv/bin/python3" -c 'import kazoo' 2>/dev/null || python3 -c 'import kazoo' 2>/dev/null; }

install_kazoo() {
    has_kazoo || { python3 -m venv "$root/target/venv" && "$root/target/venv/bin/pip" install -q kazoo; } ||
        echo "kazoo cannot be installed"
}

has_java_zookeeper() { compgen -G "$root/target/java-zookeeper/zookeeper-*.jar" >/dev/null; }

install_java_zookeeper() {
    has_java_zookeeper ||
        mvn -q -B -f integration/java/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$root/target/java-zookeeper" ||
        echo "the Java ZooKeeper client cannot be installed"
}

start_engine() {
    ! docker version >/dev/null 2>&1 || return 0
    command -v dockerd >/dev/null && may_be_root || return 0
    echo "Starting dockerd; it logs to $target/dockerd.log"
    engine_pid_file=$target/dockerd.pid
    # shellcheck disable=SC2016 # The inner shell expands these.
    as_root setsid sh -c 'echo $$ >"$0"; exec dockerd --group "$1"' "$engine_pid_file" "$(id -gn)" \
        >"$target/dockerd.log" 2>&1 &
    disown
    for _ in $(seq 300); do
        ! docker version >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    echo "dockerd does not answer: $(tail -n 1 "$target/dockerd.log")"
}

heading "tools"
command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs"
cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
install_packages
install_kazoo
install_java_zookeeper
start_engine

step "format" cargo fmt --all --check
step "lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
# Programs and tests in one go, so that they share one build of each dependency.
step "programs and tests: build" cargo build --workspace --bins --tests
if docker version >/dev/null 2>&1; then
    step "container image: build" scripts/images.sh --debug --tag $IMAGE
fi
step "tests" cargo test --workspace --no-fail-fast --quiet
# Built by themselves, with what makes a seed replay exactly: see integration/simulator/.cargo/config.toml.
step "simulator" env -C integration/simulator cargo test --quiet
heading "quickstart"
quickstart=("--dir" "$target/quickstart" --base-port 9392 --coord-port 2381)
export GREGOR_PROFILE=debug
scripts/cluster.sh --dir "$target/quickstart" reset
bounded scripts/quickstart.sh "${quickstart[@]}" || fail "failed: scripts/quickstart.sh ${quickstart[*]}"
scripts/cluster.sh --dir "$target/quickstart" reset

heading "done"
if [[ -s $GREGOR_SKIPPED ]]; then
    echo "Skipped:"
    sort -u "$GREGOR_SKIPPED" | sed 's/^/  /'
    [[ ${CI:-} != true ]] || fail "with CI=true a skip is a failure"
    echo "All that was not skipped is well."
else
    echo "All is well."
fi
