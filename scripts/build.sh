#!/usr/bin/env bash
# Builds the release programs where one is missing; with --always, in any case. Prints their directory.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
programs=${CARGO_TARGET_DIR:-$root/target}/release

missing=false
for program in coord broker admin cluster; do
    [[ -x $programs/$program ]] || missing=true
done
if $missing || [[ ${1:-} == --always ]]; then
    if ! command -v cargo >/dev/null; then
        echo "build.sh: cargo is missing: install Rust from https://rustup.rs" >&2
        exit 1
    fi
    echo "Building coord, broker and admin in release mode; the first time takes a few minutes." >&2
    (cd "$root" && cargo build --release -p coord -p broker -p admin -p integration --bins) >&2
fi
echo "$programs"
