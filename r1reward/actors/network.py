"""Which of a node's network interfaces the ranks of a learner meet on."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import psutil


def node_interfaces() -> dict[str, list[str]]:
    """The IP addresses of every network interface of this machine."""
    return {
        name: [address.address for address in addresses]
        for name, addresses in psutil.net_if_addrs().items()
    }


def interface_with(address: str, interfaces: Mapping[str, list[str]]) -> str | None:
    """Name of the interface that has an IP address; None behind an address translation."""
    return next((name for name, found in interfaces.items() if address in found), None)


def name_interface(address: str, environment: MutableMapping[str, str]) -> None:
    """Let gloo listen where the node's other actors are reached, unless the user has chosen.

    By itself gloo listens where the machine's name points to (`createDefaultDevice` in PyTorch's
    ProcessGroupGloo.cpp), which often is 127.0.x.1: other nodes then call themselves.
    """
    if "GLOO_SOCKET_IFNAME" in environment:
        return
    if name := interface_with(address, node_interfaces()):
        environment["GLOO_SOCKET_IFNAME"] = name
