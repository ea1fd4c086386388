"""Which proxy a request goes through, by the environment; none for addresses of this machine."""

import ipaddress
import re
from collections.abc import MutableMapping
from contextlib import suppress
from urllib.parse import urlsplit

OWN_HOSTS = ("localhost", "127.0.0.1", "::1")


def is_own_host(host: str) -> bool:
    """Whether a name or address means this machine and is never meant for a proxy."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        mapped = getattr(address, "ipv4_mapped", None) or address
        return bool(mapped.is_loopback or mapped.is_unspecified)
    return False


def proxy_of(url: str) -> str | None:
    """Returns the proxy for an address: what HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say."""
    from requests.utils import get_environ_proxies, select_proxy

    if is_own_host(urlsplit(url).hostname or ""):
        return None
    proxy: str | None = select_proxy(url, get_environ_proxies(url))
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def masked(proxy: str) -> str:
    """Returns the address of a proxy without the user name and the password in it."""
    return re.sub(r"^([a-z0-9]+://)?.*@", r"\1***@", proxy)


def keep_own_hosts_direct(environment: MutableMapping[str, str]) -> None:
    """Adds this machine to NO_PROXY, for every library and every process that is started from here.

    Both spellings are set: libraries differ in which of them they prefer.
    """
    listed = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = [host.strip() for text in listed for host in text.split(",") if host.strip()]
    value = ",".join(dict.fromkeys([*hosts, *OWN_HOSTS]))
    environment["no_proxy"] = environment["NO_PROXY"] = value
