#!/usr/bin/env bash
# Builds one container image that holds the three programs and nothing else: FROM scratch, statically linked, without
# a registry. Usage: images.sh [--debug] [--tag gregor:latest]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

profile=release
tag=gregor:latest
while (($#)); do
    case $1 in
    --debug) profile=dev ;;
    --tag)
        tag=${2:?images.sh: --tag needs a name}
        shift
        ;;
    *)
        echo "images.sh: unknown option $1; usage: images.sh [--debug] [--tag gregor:latest]" >&2
        exit 1
        ;;
    esac
    shift
done

if ! docker version >/dev/null 2>&1; then
    echo "images.sh: no container engine answers: install Debian's docker.io, and start dockerd" >&2
    exit 1
fi

target=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flag holds for the programs alone, not for what builds them.
RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile "$profile" --target "$target" \
    -p coord -p broker -p admin --bins
built=${CARGO_TARGET_DIR:-target}/$target/${profile/dev/debug}

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage"/{bin,data,etc,tmp}
chmod 1777 "$stage/tmp"
for program in coord broker admin; do
    install -m 755 "$built/$program" "$stage/bin/$program"
    # Debug symbols would be most of the image.
    ! command -v strip >/dev/null || strip "$stage/bin/$program"
done
for tool in topics configs console-producer console-consumer; do
    ln -s admin "$stage/bin/kafka-$tool"
done
ln -s admin "$stage/bin/zookeeper-shell"
tar -C "$stage" --owner=0 --group=0 --numeric-owner -c . |
    docker import --change 'ENV PATH=/bin' --change 'WORKDIR /data' --change 'CMD ["broker", "--help"]' - "$tag" >/dev/null
echo "$tag: $(($(docker image inspect --format '{{.Size}}' "$tag") / 1000000)) MB"
