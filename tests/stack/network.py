"""Where the nodes of a cluster live: in network namespaces with addresses of their own, or together."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Place:
    """One node's address, and the words before a command that is to run there."""

    address: str
    enter: tuple[str, ...] = ()


LOOPBACK = Place("127.0.0.1")
# A function that makes the next node's place.
Places = Callable[[], Place]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def free_subnet() -> str:
    """The first three numbers of one that no interface has, of the range that is kept for tests."""
    taken = {
        address.address.rpartition(".")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
    }
    while (subnet := f"198.18.{secrets.randbelow(256)}") in taken:
        pass
    return subnet


def is_reachable(address: str) -> bool:
    """Nobody listens there, so whoever is reachable refuses."""
    try:
        socket.create_connection((address, 9), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def namespaces() -> Iterator[Places | None]:
    """A switch that this process is plugged into, and a namespace for every place that is asked for.

    The switch has a namespace too: a firewall of this machine does not see what nodes say to each
    other. None where the system does not let us: no root, no iproute2, no such kernel, a firewall.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        yield None
        return
    name, subnet = f"r1r{secrets.token_hex(3)}", free_subnet()
    made = [name]

    def switch() -> None:
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "switch", "type", "bridge")
        ip("-n", name, "addr", "add", f"{subnet}.2/24", "dev", "switch")
        ip("-n", name, "link", "set", "switch", "up")
        ip("link", "add", name, "type", "veth", "peer", "name", "uplink", "netns", name)
        ip("-n", name, "link", "set", "uplink", "master", "switch", "up")
        ip("addr", "add", f"{subnet}.1/24", "dev", name)
        ip("link", "set", name, "up")

    def place() -> Place:
        number = len(made)
        node, address = f"{name}-{number}", f"{subnet}.{number + 10}"
        ip("netns", "add", node)
        made.append(node)
        port = ("link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0")
        ip("-n", name, *port, "netns", node)
        ip("-n", name, "link", "set", f"port{number}", "master", "switch", "up")
        ip("-n", node, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", node, "link", "set", "eth0", "up")
        ip("-n", node, "link", "set", "lo", "up")
        # Nothing leads out of it, but a machine without a default route does not know its own address.
        ip("-n", node, "route", "add", "default", "via", f"{subnet}.1")
        return Place(address, ("ip", "netns", "exec", node))

    try:
        try:
            switch()
            works = is_reachable(f"{subnet}.2")
        except subprocess.CalledProcessError:
            works = False
        yield place if works else None
    finally:
        for words in (("link", "del", name), *(("netns", "del", one) for one in reversed(made))):
            with suppress(subprocess.CalledProcessError):
                ip(*words)
