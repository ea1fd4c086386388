"""Ports of this machine, and the proxies and the Ray cluster that the environment names."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from r1reward.doctor.finding import Finding, failure, note, ok, problem
from r1reward.engines.proxies import masked

# Of `ray start --head`: the cluster itself, and its dashboard with the jobs.
RAY_PORTS = (6379, 8265)
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
# The port that an address means when it names none.
DEFAULT_PORTS = {"": 6379, "ray": 10001, "https": 443}


def check_loopback() -> Finding:
    """Whether a free port can be opened and reached: gloo, NCCL and Ray all begin so."""
    error = failure(send_over_loopback, OSError)
    if error is None:
        return ok("loopback", "ports open and answer")
    fix = "bring it up (`ip link set lo up`), and let processes of this user open ports"
    return problem("loopback", f"127.0.0.1 cannot be reached: {error}", fix)


def send_over_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        with socket.create_connection(listener.getsockname(), timeout=10) as client:
            accepted, _ = listener.accept()
            with accepted:
                client.sendall(b"r1")
                if accepted.recv(2) != b"r1":
                    raise OSError("what was sent did not arrive")


def check_ports(ports: Sequence[int], must_be_free: bool) -> Iterator[Finding]:
    """Yields a finding for every occupied port, which is a note unless the port must be free."""
    occupied = [port for port in ports if not is_free(port)]
    if not occupied:
        yield ok("ports", f"{', '.join(map(str, ports))} are free")
    for port in occupied:
        yield (problem if must_be_free else note)(
            "ports",
            f"{port} is in use",
            f"see who has it (`ss -ltnp 'sport = :{port}'`); a Ray that runs here is joined with "
            "RAY_ADDRESS=auto and ended with `ray stop`",
        )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return failure(partial(probe.bind, ("", port)), OSError) is None


def check_proxies(environment: Mapping[str, str]) -> Finding:
    """Which proxies requests to other machines go through; users and passwords are not shown."""
    given = {name.upper(): value for name, value in environment.items() if value}
    proxies = {name: masked(given[name]) for name in PROXY_VARIABLES if name in given}
    if not proxies:
        return ok("proxy", "none: requests to other machines go there directly")
    listed = ", ".join(f"{name} is {proxy}" for name, proxy in proxies.items())
    direct = given.get("NO_PROXY", "nothing")
    return note(
        "proxy",
        f"{listed}; not for this machine, and not for NO_PROXY ({direct})",
        "name servers of your own network in NO_PROXY, if the proxy does not reach them",
    )


def check_cluster(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yields whether Ray answers where RAY_ADDRESS says, and whether there is a token for it.

    A token is never shown.
    """
    address = environment.get("RAY_ADDRESS", "")
    if not address:
        yield ok("ray", "RAY_ADDRESS is not set: Ray starts on this machine for each run")
        return
    if address not in ("auto", "local"):
        yield check_reachable(address)
    yield check_authentication(environment)


def check_reachable(address: str) -> Finding:
    """Whether the host and port of ``address`` (``HOST:6379`` or ``http://HOST:8265``) answer."""
    url = urlsplit(address if "//" in address else f"//{address}")
    has_wrong_port = failure(lambda: url.port, ValueError)
    if has_wrong_port or url.hostname is None:
        fix = "write it as HOST:6379 or http://HOST:8265"
        return problem("ray", f"RAY_ADDRESS is {address!r}", fix)
    host, port = url.hostname, url.port or DEFAULT_PORTS.get(url.scheme, 8265)
    error = failure(lambda: socket.create_connection((host, port), timeout=10).close(), OSError)
    if error is None:
        return ok("ray", f"{host} answers on port {port}")
    fix = "is the head up (`ray status` there), and its port open to this machine?"
    return problem("ray", f"RAY_ADDRESS {address} does not answer ({error})", fix)


def check_authentication(environment: Mapping[str, str]) -> Finding:
    """Ray reads a token from the environment, a file that it names, or ~/.ray/auth_token."""
    mode = environment.get("RAY_AUTH_MODE", "")
    if mode == "disabled":
        return problem(
            "authentication",
            "RAY_AUTH_MODE is disabled: whoever reaches the cluster runs code on it",
            "start the cluster and its clients with RAY_AUTH_MODE=token",
        )
    if environment.get("RAY_AUTH_TOKEN"):
        return ok("authentication", "a token in RAY_AUTH_TOKEN")
    home = Path(environment.get("HOME", "~")).expanduser()
    file = Path(environment.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")
    if file.is_file() and os.access(file, os.R_OK):
        return ok("authentication", f"a token in {file}")
    if mode == "token":
        return problem(
            "authentication",
            f"RAY_AUTH_MODE is token, but there is none in RAY_AUTH_TOKEN or {file}",
            "put the cluster's token into that file, readable by you only",
        )
    return note(
        "authentication",
        "no token: a cluster that asks for one answers 401",
        "RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token",
    )
