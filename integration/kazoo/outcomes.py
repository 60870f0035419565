#!/usr/bin/env python3
"""What suite.sh needs of Python: free ports for the ensemble, and a report of pytest's outcomes."""

import socket
import sys
import xml.etree.ElementTree as xml

PORTS_PER_NODE = 10


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(nodes):
    """The first of a run of ports that nobody listens on, below those that the kernel gives to clients."""
    for start in range(20000, 32000, 100):
        if all(is_free(port) for port in range(start, start + PORTS_PER_NODE * nodes)):
            return start
    sys.exit("suite.sh: no run of free ports from 20000 to 32000")


def known_failures(path):
    """Lines of a test's id and a reason."""
    with open(path) as lines:
        pairs = (line.strip().split(None, 1) for line in lines if line.strip() and not line.startswith("#"))
        return dict(pairs)


def report(outcomes, known):
    passed, failed, skipped = [], {}, {}
    for case in xml.parse(outcomes).getroot().iter("testcase"):
        name = "::".join([*case.get("classname").split("."), case.get("name")])
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        if wrong is not None:
            failed[name] = " ".join(wrong.get("message", "").split())[:160]
        elif case.find("skipped") is not None:
            skipped[name] = case.find("skipped").get("message", "")
        else:
            passed.append(name)
    unexpected = {name: message for name, message in failed.items() if name not in known}
    for name, reason in skipped.items():
        print(f"skipped     {name}: {reason}")
    for name in failed.keys() & known.keys():
        print(f"known       {name}: {known[name]}")
    for name, message in unexpected.items():
        print(f"UNEXPECTED  {name}: {message}")
    for name in set(passed) & known.keys():
        print(f"passes now  {name}: take it off the list of known failures")
    print(f"{len(passed)} passed, {len(failed)} failed ({len(unexpected)} unexpected), {len(skipped)} skipped")
    return 1 if unexpected or not passed else 0


def main():
    verb, *arguments = sys.argv[1:]
    if verb == "free-ports":
        print(free_ports(int(arguments[0])))
        return 0
    outcomes, *known = arguments
    return report(outcomes, known_failures(known[0]) if known else {})


if __name__ == "__main__":
    sys.exit(main())
