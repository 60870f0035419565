#!/usr/bin/env bash
# Builds the programs where one is missing, in release mode; with --always, whatever changed too. Prints their directory.
# GREGOR_PROFILE=debug takes the programs as cargo build made them: the gate tries the scripts with those.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
profile=${GREGOR_PROFILE:-release}
programs=${CARGO_TARGET_DIR:-$root/target}/$profile

missing=false
for program in coord broker admin cluster; do
    [[ -x $programs/$program ]] || missing=true
done
if $missing || [[ ${1:-} == --always && $profile == release ]]; then
    if ! command -v cargo >/dev/null; then
        echo "build.sh: cargo is missing: install Rust from https://rustup.rs" >&2
        exit 1
    fi
    echo "Building coord, broker and admin ($profile); the first time takes a few minutes." >&2
    (cd "$root" && cargo build --profile "${profile/debug/dev}" -p coord -p broker -p admin -p integration --bins) >&2
fi
echo "$programs"
