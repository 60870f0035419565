#!/usr/bin/env bash
# Kafka's command line tools under their own names: scripts/bin/kafka-topics and its siblings are links to this file,
# zookeeper-shell among them.
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
tool=$(basename "$0" .sh)
programs=$("$root/scripts/build.sh" admin)
exec "$programs/admin" "${tool#kafka-}" "$@"
