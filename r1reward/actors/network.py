"""Which of a node's network interfaces the ranks of a learner meet on."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import psutil


def interface_with(ip_address: str) -> str | None:
    """Name of this machine's interface that has an IP address; None behind an address translation."""
    interfaces: Mapping[str, Sequence[Any]] = psutil.net_if_addrs()
    for name, addresses in interfaces.items():
        if any(own.address == ip_address for own in addresses):
            return name
    return None


def name_interface(address: str, environment: MutableMapping[str, str]) -> None:
    """Let gloo listen where the node's other actors are reached, unless the user has chosen.

    By itself gloo listens where the machine's name points to (`createDefaultDevice` in PyTorch's
    ProcessGroupGloo.cpp), which often is 127.0.x.1: other nodes then call themselves.
    """
    if "GLOO_SOCKET_IFNAME" in environment:
        return
    if name := interface_with(address):
        environment["GLOO_SOCKET_IFNAME"] = name
