"""The run folder, shared memory, ports and the cluster."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from r1reward.doctor.finding import Finding
from r1reward.errors import InputError, ServiceError
from r1reward.runs.storage import RemoteFolder

SHARED_MEMORY = Path("/dev/shm")
MIN_STORE_BYTES = 2 * 10**9
MIN_FREE_GB = 10
# Of `ray start --head`: the cluster itself, and its dashboard with the jobs.
RAY_PORTS = (6379, 8265)


def check_run_dir(folder: Path) -> Finding:
    """A file can be written, renamed and removed there, as checkpoints are."""
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    try:
        if not there.is_dir():
            raise NotADirectoryError(20, "not a folder")
        with tempfile.TemporaryDirectory(dir=there, prefix=".r1reward-doctor-") as probe:
            first = Path(probe) / "first"
            first.write_bytes(b"r1reward")
            first.rename(Path(probe) / "second")
        free = shutil.disk_usage(there).free / 1e9
    except OSError as error:
        return Finding(
            "run folder",
            "problem",
            f"{folder}: nothing can be written to {there} ({error.strerror or error})",
            f"choose another run_dir, or give this user the folder: `chown $(id -u) {there}`",
        )
    if free < MIN_FREE_GB:
        return Finding(
            "run folder",
            "problem",
            f"{folder}: {free:.1f} GB free; checkpoints of a 7B model take 100 GB each",
            "make room, lower train.keep_checkpoints, or choose another run_dir",
        )
    return Finding("run folder", "ok", f"{folder}, {free:,.0f} GB free")


def check_run_url(url: str) -> Finding:
    """A file can be written, listed, read back and removed there."""
    remote = RemoteFolder(url)
    name = f".r1reward-doctor-{uuid.uuid4().hex}"
    try:
        remote.write(name, b"r1reward")
        whole = remote.read(name) == b"r1reward" and name in remote.files()
        remote.remove([name])
    except (InputError, ServiceError) as error:
        return Finding(
            "run URL",
            "problem",
            str(error),
            "check bucket, region and the keys in the environment, or give a path as run_dir",
        )
    if not whole:
        return Finding(
            "run URL", "problem", f"{url}: a file that was written is not listed there", ""
        )
    return Finding("run URL", "ok", f"{url} can be written")


def check_shared_memory(needed: int | None, folder: Path = SHARED_MEMORY) -> Finding:
    """Ray's object store lives there; on disk it would be far slower. ``needed`` in bytes."""
    wanted = needed or MIN_STORE_BYTES
    if not folder.is_dir():
        return Finding("shared memory", "note", f"there is no {folder}: Ray keeps objects on disk")
    size = shutil.disk_usage(folder).free
    if size < wanted:
        return Finding(
            "shared memory",
            "problem",
            f"{folder} has {size / 1e9:.1f} GB free; two bundles of weights take "
            f"{wanted / 1e9:.1f} GB",
            f"`docker run --shm-size={-(-wanted // 10**9) + 1}g`, or a memory volume at {folder} "
            "(Kubernetes: emptyDir, medium Memory)",
        )
    return Finding("shared memory", "ok", f"{folder}, {size / 1e9:.1f} GB free")


def check_loopback() -> Finding:
    """A free port can be opened and reached: gloo, NCCL and Ray all begin so."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)
            with socket.create_connection(listener.getsockname(), timeout=10) as client:
                accepted, _ = listener.accept()
                with accepted:
                    client.sendall(b"r1")
                    if accepted.recv(2) != b"r1":
                        raise OSError("what was sent did not arrive")
    except OSError as error:
        return Finding(
            "loopback",
            "problem",
            f"127.0.0.1 cannot be reached: {error}",
            "bring it up (`ip link set lo up`), and let processes of this user open ports",
        )
    return Finding("loopback", "ok", "ports open and answer")


def check_ports(ports: tuple[int, ...], asked: bool) -> list[Finding]:
    """Occupied ports: a problem where one asked for them, a note about Ray's own otherwise."""
    taken = [port for port in ports if not is_free(port)]
    if not taken:
        return [Finding("ports", "ok", f"{', '.join(map(str, ports))} are free")]
    return [
        Finding(
            "ports",
            "problem" if asked else "note",
            f"{port} is in use",
            f"see who has it (`ss -ltnp 'sport = :{port}'`); a Ray that runs here is joined with "
            "RAY_ADDRESS=auto and ended with `ray stop`",
        )
        for port in taken
    ]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def check_cluster(environment: dict[str, str]) -> list[Finding]:
    """Ray where RAY_ADDRESS says, and how it asks who one is. Never shows a token."""
    address = environment.get("RAY_ADDRESS", "")
    if not address:
        what = "RAY_ADDRESS is not set: Ray starts on this machine for each run"
        return [Finding("ray", "ok", what)]
    findings = [check_reachable(address)] if address not in ("auto", "local") else []
    return [*findings, check_authentication(environment)]


def check_reachable(address: str) -> Finding:
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        host, port = (
            parts.hostname,
            parts.port
            or {"ray": 10001, "https": 443}.get(parts.scheme, 6379 if not parts.scheme else 8265),
        )
    except ValueError:
        host, port = None, 0
    if host is None:
        return Finding(
            "ray",
            "problem",
            f"RAY_ADDRESS is {address!r}",
            "write it as HOST:6379 or http://HOST:8265",
        )
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
        return Finding(
            "ray",
            "problem",
            f"RAY_ADDRESS {address} does not answer ({error})",
            "is the head up (`ray status` there), and its port open to this machine?",
        )
    return Finding("ray", "ok", f"{host} answers on port {port}")


def check_authentication(environment: dict[str, str]) -> Finding:
    """Ray reads a token from the environment, a file that it names, or ~/.ray/auth_token."""
    mode = environment.get("RAY_AUTH_MODE", "")
    if mode == "disabled":
        return Finding(
            "authentication",
            "problem",
            "RAY_AUTH_MODE is disabled: whoever reaches the cluster runs code on it",
            "start the cluster and its clients with RAY_AUTH_MODE=token",
        )
    place = environment.get("RAY_AUTH_TOKEN_PATH", "")
    home = Path(environment.get("HOME", "~")).expanduser() / ".ray" / "auth_token"
    if environment.get("RAY_AUTH_TOKEN"):
        return Finding("authentication", "ok", "a token in RAY_AUTH_TOKEN")
    for path in [Path(place)] if place else [home]:
        if path.is_file() and os.access(path, os.R_OK):
            return Finding("authentication", "ok", f"a token in {path}")
    if mode == "token":
        return Finding(
            "authentication",
            "problem",
            f"RAY_AUTH_MODE is token, but there is none in RAY_AUTH_TOKEN or {place or home}",
            "put the cluster's token into that file, readable by you only",
        )
    return Finding(
        "authentication",
        "note",
        "no token: a cluster that asks for one answers 401",
        "RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token",
    )
