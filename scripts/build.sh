#!/usr/bin/env bash
# Builds the programs that are named, or all, where one is missing, in release mode; with --always before the names,
# whatever changed too. Prints their directory.
# GREGOR_PROFILE=debug takes the programs as cargo build made them: the gate tries the scripts with those.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
profile=${GREGOR_PROFILE:-release}
programs=${CARGO_TARGET_DIR:-$root/target}/$profile

always=false
if [[ ${1:-} == --always ]]; then
    always=true
    shift
fi
(($#)) || set -- coord broker admin cluster

missing=false
packages=()
for program; do
    [[ -x $programs/$program ]] || missing=true
    packages+=(-p "${program/#cluster/integration}")
done
if $missing || [[ $always == true && $profile == release ]]; then
    if ! command -v cargo >/dev/null; then
        echo "build.sh: cargo is missing: install Rust from https://rustup.rs" >&2
        exit 1
    fi
    echo "Building $* ($profile); the first time takes a few minutes." >&2
    (cd "$root" && cargo build --profile "${profile/debug/dev}" "${packages[@]}" --bins) >&2
fi
echo "$programs"
