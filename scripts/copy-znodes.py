#!/usr/bin/env python3
"""Copies the znodes of one ZooKeeper, Apache's or coord, into another that is empty. Both have to run."""

import argparse

from kazoo.client import KazooClient

parser = argparse.ArgumentParser(
    description=__doc__,
    epilog="Data and ACLs are copied. Ephemeral znodes stay behind, containers and znodes with a time to live become "
    "ordinary ones, and versions and the numbers of sequential znodes begin anew. Nobody should write meanwhile. "
    "Needs kazoo (pip install kazoo).",
)
parser.add_argument("source", help="host:port, host:port,…")
parser.add_argument("target", help="host:port, host:port,…")
parser.add_argument("--digest", metavar="USER:PASSWORD", help="shown to both, where ACLs ask for it: the super user, say")
arguments = parser.parse_args()


def connect(hosts):
    auth = [("digest", arguments.digest)] if arguments.digest else None
    client = KazooClient(hosts, auth_data=auth)
    client.start()
    return client


def is_ephemeral(owner):
    """Of a session: a container's owner is the least number, and of a time to live the first byte is 255."""
    return owner not in (0, -(2**63)) and (owner >> 56) & 0xFF != 0xFF


source, target = connect(arguments.source), connect(arguments.target)
if target.get_children("/") != ["zookeeper"]:
    parser.error(f"{arguments.target} is not empty")
target.set("/", source.get("/")[0])
paths, copied = ["/"], 0
for path in paths:
    for name in source.get_children(path):
        child = path.rstrip("/") + "/" + name
        if child == "/zookeeper":
            continue
        data, stat = source.get(child)
        if is_ephemeral(stat.ephemeralOwner):
            continue
        target.create(child, data, acl=source.get_acls(child)[0])
        copied += 1
        paths.append(child)
# Last, for it may take from us what the others need.
target.set_acls("/", source.get_acls("/")[0])
for client in (source, target):
    client.stop()
print(f"copied {copied} znodes")
