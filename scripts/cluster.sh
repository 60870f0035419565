#!/usr/bin/env bash
# Brings up a cluster on this machine, and keeps it: see cluster.sh --help. With --build as the first word the programs
# are built anew before.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=()
if [[ ${1:-} == --build ]]; then
    build=(--always)
    shift
fi
programs=$("$root/scripts/build.sh" "${build[@]}")
export GREGOR_CLUSTER=${GREGOR_CLUSTER:-$root/.cluster}
exec "$programs/cluster" "$@"
