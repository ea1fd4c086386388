"""The interface on which the ranks of a learner meet."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from r1reward.actors.network import interface_with, name_interface

INTERFACES = {
    "lo": ["127.0.0.1", "::1"],
    "docker0": ["172.17.0.1"],
    "ens5": ["10.0.3.4", "fe80::1%ens5", "06:5f:00:00:00:01"],
}


def test_the_interface_is_the_one_that_has_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = {
        name: [SimpleNamespace(address=address) for address in addresses]
        for name, addresses in INTERFACES.items()
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: interfaces)
    assert interface_with("10.0.3.4") == "ens5"
    assert interface_with("127.0.0.1") == "lo"
    assert interface_with("10.0.3.40") is None


def test_gloo_is_told_the_interface_of_the_node_unless_the_user_has_chosen() -> None:
    loopback = interface_with("127.0.0.1")
    assert loopback is not None
    environment: dict[str, str] = {}
    name_interface("127.0.0.1", environment)
    assert environment == {"GLOO_SOCKET_IFNAME": loopback}

    chosen = {"GLOO_SOCKET_IFNAME": "ib0"}
    name_interface("127.0.0.1", chosen)
    assert chosen == {"GLOO_SOCKET_IFNAME": "ib0"}


def test_an_address_that_no_interface_has_leaves_the_choice_to_gloo() -> None:
    environment: dict[str, str] = {}
    name_interface("203.0.113.7", environment)
    assert environment == {}
