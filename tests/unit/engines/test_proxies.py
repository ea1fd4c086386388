"""Which requests go through a proxy, and what is shown of it."""

from urllib.request import getproxies, proxy_bypass

import pytest
from requests.utils import select_proxy, should_bypass_proxies

from r1reward.engines.proxies import is_own_host, keep_own_hosts_direct, masked, proxy_of

PROXY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "host",
    ["localhost", "a.localhost", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"],
)
def test_this_machine_has_many_names(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    shown = f"[{host}]" if ":" in host else host
    assert is_own_host(host)
    assert proxy_of(f"http://{shown}:8000/v1") is None


@pytest.mark.parametrize("host", ["128.0.0.1", "localhost.org", "10.0.0.1", "example.org", ""])
def test_other_machines_are_not_this_one(host: str) -> None:
    assert not is_own_host(host)


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "http://a.org/v1", None),
        ({"HTTP_PROXY": PROXY}, "http://a.org/v1", PROXY),
        ({"http_proxy": "proxy:3128"}, "http://a.org/v1", "http://proxy:3128"),
        ({"HTTP_PROXY": PROXY}, "https://a.org/v1", None),
        ({"HTTPS_PROXY": PROXY}, "https://a.org/v1", PROXY),
        ({"ALL_PROXY": PROXY}, "https://a.org/v1", PROXY),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "a.org"}, "http://x.a.org/v1", None),
        ({"HTTP_PROXY": PROXY, "no_proxy": "10.0.0.0/8"}, "http://10.1.2.3:8000/v1", None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, "http://a.org/v1", None),
    ],
)
def test_the_environment_says_which_proxy(
    environment: dict[str, str],
    url: str,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url) == expected


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://me:secret@proxy:3128", "http://***@proxy:3128"),
        ("me:sec@ret@proxy", "***@proxy"),
        ("socks5://proxy", "socks5://proxy"),
    ],
)
def test_logins_are_not_shown(proxy: str, shown: str) -> None:
    assert masked(proxy) == shown


def test_other_libraries_and_processes_reach_this_machine_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: Ray's job client and storage at a port of this machine were asked for at the proxy."""
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "a.org")
    environment = {"NO_PROXY": "a.org", "no_proxy": "b.org, a.org"}
    keep_own_hosts_direct(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"]
    assert environment["NO_PROXY"] == "b.org,a.org,localhost,127.0.0.1,::1"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for host in ("127.0.0.1", "localhost", "a.org", "b.org"):
        assert should_bypass_proxies(f"http://{host}:8265", no_proxy=None)
        assert proxy_bypass(host)
    assert select_proxy("http://c.org", getproxies()) == PROXY
