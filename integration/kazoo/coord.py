#!/usr/bin/env python3
"""Uses coord as any ZooKeeper client would, through kazoo. Needs Python 3 and kazoo (pip install kazoo).

Usage: coord.py HOST:PORT. Ends with "all is well", or with the assertion that failed.
"""

import sys
import threading

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError, NotEmptyError

DEADLINE_S = 10


class Watch:
    """A one-shot watch that can be awaited."""

    def __init__(self):
        self.events = []
        self.fired = threading.Event()

    def __call__(self, event):
        self.events.append(event)
        self.fired.set()

    def awaited(self, kind, path):
        assert self.fired.wait(DEADLINE_S), f"no {kind} for {path}"
        event = self.events[0]
        assert (event.type, event.path) == (kind, path), event


def client(hosts, timeout=4.0):
    zk = KazooClient(hosts=hosts, timeout=timeout)
    zk.start(timeout=DEADLINE_S)
    return zk


def persistent_nodes(zk):
    assert zk.create("/house", b"brick") == "/house"
    data, stat = zk.get("/house")
    assert (data, stat.version, stat.numChildren, stat.ephemeralOwner) == (b"brick", 0, 0, 0)
    assert stat.czxid == stat.mzxid and stat.dataLength == 5
    assert zk.set("/house", b"stone").version == 1
    expect(BadVersionError, zk.set, "/house", b"straw", version=0)
    expect(NodeExistsError, zk.create, "/house")
    expect(NoNodeError, zk.create, "/nowhere/room")
    zk.create("/house/kitchen")
    expect(NotEmptyError, zk.delete, "/house")
    children, stat = zk.get_children("/house", include_data=True)
    assert children == ["kitchen"] and stat.numChildren == 1
    acls, _ = zk.get_acls("/house")
    assert [(acl.id.scheme, acl.id.id, acl.perms) for acl in acls] == [("world", "anyone", 31)]


def sequential_nodes(zk):
    zk.create("/queue")
    names = [zk.create("/queue/job-", sequence=True) for _ in range(3)]
    assert names == [f"/queue/job-{n:010d}" for n in range(3)], names
    ephemeral = zk.create("/queue/job-", ephemeral=True, sequence=True)
    assert ephemeral == "/queue/job-0000000003", ephemeral


def ephemeral_nodes(zk, hosts):
    other = client(hosts)
    other.create("/guest", b"", ephemeral=True)
    assert zk.exists("/guest").ephemeralOwner == other.client_id[0]
    gone = Watch()
    assert zk.exists("/guest", watch=gone)
    other.stop()
    gone.awaited("DELETED", "/guest")
    assert zk.exists("/guest") is None
    other.close()


def watches(zk):
    zk.create("/bell", b"0")
    data, children, exists, created = Watch(), Watch(), Watch(), Watch()
    zk.get("/bell", watch=data)
    zk.get_children("/bell", watch=children)
    zk.exists("/bell", watch=exists)
    assert zk.exists("/bell/string", watch=created) is None
    zk.set("/bell", b"1")
    data.awaited("CHANGED", "/bell")
    exists.awaited("CHANGED", "/bell")
    zk.create("/bell/string")
    children.awaited("CHILD", "/bell")
    created.awaited("CREATED", "/bell/string")
    # One-shot: the second change is told to no one.
    zk.set("/bell", b"2")
    zk.sync("/bell")
    assert len(data.events) == len(exists.events) == 1


def transactions(zk):
    together = zk.transaction()
    together.create("/pair", b"")
    together.create("/pair/left", b"")
    together.check("/pair", version=0)
    together.create("/pair/right", b"")
    assert together.commit() == ["/pair", "/pair/left", True, "/pair/right"]
    broken = zk.transaction()
    broken.create("/single", b"")
    broken.check("/pair", version=7)
    results = broken.commit()
    assert isinstance(results[1], BadVersionError), results
    assert zk.exists("/single") is None, "a transaction that fails leaves nothing"


def expect(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"{call.__name__}{args} did not raise {error.__name__}")


def main():
    hosts = sys.argv[1]
    zk = client(hosts)
    for story in (persistent_nodes, sequential_nodes, watches, transactions):
        story(zk)
        print(story.__name__, "ok")
    ephemeral_nodes(zk, hosts)
    print("ephemeral_nodes ok")
    assert b"imok" in zk.command(b"ruok").encode()
    zk.stop()
    zk.close()
    print("all is well")


if __name__ == "__main__":
    main()
