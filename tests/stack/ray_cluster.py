"""A Ray cluster of several nodes on this machine: raylet, object store and agents each, with a token."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.stack.network import LOOPBACK, Place, Places, namespaces

BIN = Path(sys.executable).parent
LIMIT_S = 300
RECEIVED = re.compile(
    r'^ray_object_manager_bytes\w*\{[^}]*Type="Received"[^}]*\} (\S+)', re.MULTILINE
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RayCluster:
    """Every node is a ``ray start --block`` in a session of its own, so that it can be killed alone."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    next_place: Places = lambda: LOOPBACK
    # Every node but the head has a disk of its own there, where nodes have addresses of their own.
    unshared: Path | None = None
    places: list[Place] = field(default_factory=list)
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    node_ids: list[str] = field(default_factory=list)
    metrics_ports: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What jobs are submitted to."""
        return f"http://{self.places[0].address}:{self.dashboard_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of the nodes, and of whoever talks to them. Not this package: jobs bring their own."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONPATH"))}
        return kept | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "WANDB_MODE": "offline",
            "NO_PROXY": "*",  # nothing here is outside of this machine
            "RAY_metrics_report_interval_ms": "1000",
            "RAY_raylet_start_wait_time_s": str(LIMIT_S),  # a busy machine needs more than 30 s
        }

    def add_node(self, resources: str = "{}") -> int:
        """Start a node and wait until it has joined; returns its number. The first is the head."""
        place = self.next_place()
        self.places.append(place)
        where = (
            [f"--address={self.places[0].address}:{self.port}"]
            if self.nodes
            else [
                "--head",
                f"--port={self.port}",
                f"--dashboard-host={place.address}",
                f"--dashboard-port={self.dashboard_port}",
                f"--ray-client-server-port={free_port()}",
            ]
        )
        # A folder a node: nodes that shared one would unpack jobs over each other's working folders.
        folder = self.folder / str(len(self.nodes))
        self.metrics_ports.append(free_port())
        log = (self.folder.parent / f"{len(self.nodes)}.log").open("wb")
        node = subprocess.Popen(
            [
                *self.enter(place),
                *(str(BIN / "ray"), "start", "--block", "--disable-usage-stats", *where),
                *(f"--node-ip-address={place.address}", "--num-cpus=2", "--num-gpus=0"),
                *(f"--resources={resources}", "--object-store-memory=157286400"),
                *("--min-worker-port=0", "--max-worker-port=0"),
                f"--dashboard-agent-listen-port={free_port()}",
                f"--metrics-export-port={self.metrics_ports[-1]}",
                f"--temp-dir={folder}",
            ],
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self.nodes.append(node)
        self.wait_for_the_new_node()
        return len(self.nodes) - 1

    def enter(self, place: Place) -> tuple[str, ...]:
        """The words before a node's command; `ip netns exec` gives it mounts of its own."""
        if self.unshared is None or not place.enter or not self.nodes:
            return place.enter
        mount = 'mount -t tmpfs none "$0" && exec "$@"'
        return (*place.enter, "sh", "-c", mount, str(self.unshared))

    def processes(self, node: int) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self.nodes[node].pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill_node(self, node: int) -> None:
        """As a machine that loses power: nothing of it gets to say goodbye."""
        for process in self.processes(node):
            with_kill(process)
        self.nodes[node].wait()

    def get(self, path: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.get(f"{self.address}{path}", headers=headers, timeout=30)

    def listed(self, what: str) -> list[dict[str, Any]]:
        """Ray's own record of its ``nodes`` or ``actors``."""
        answer = self.get(f"/api/v0/{what}?limit=100&detail=true")
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
        return rows

    def alive(self) -> set[str]:
        """Ids of the nodes that Ray takes to be there."""
        return {node["node_id"] for node in self.listed("nodes") if node["state"] == "ALIVE"}

    def wait_until_missed(self, node: int) -> None:
        """Until Ray knows that a killed node is gone, and places nothing on it."""
        deadline = time.monotonic() + LIMIT_S
        while self.node_ids[node] in self.alive():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.5)

    def wait_for_the_new_node(self) -> None:
        """Until the job server answers and the last node has joined; nodes join one at a time."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                if new := self.alive() - set(self.node_ids):
                    self.node_ids += new
                    return
            assert self.nodes[-1].poll() is None, self.logs()
            time.sleep(0.5)
        raise AssertionError(f"the node is not up: {self.logs()}")

    def received_bytes(self, node: int) -> float:
        """What a node's object store has got from others so far, as of a second ago."""
        port = self.metrics_ports[node]
        answer = requests.get(f"http://{self.places[node].address}:{port}/metrics", timeout=30)
        return sum(float(value) for value in RECEIVED.findall(answer.text))

    def logs(self) -> str:
        """What nodes and workers said, the end of it each."""
        paths = [
            *self.folder.parent.glob("*.log"),
            *self.folder.glob("*/session_latest/logs/worker-*.err"),
        ]
        texts = {path.name: path.read_text(errors="replace")[-2000:] for path in sorted(paths)}
        return "\n".join(f"--- {name}\n{text}" for name, text in texts.items() if text)


def with_kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)


@contextmanager
def ray_cluster(
    *resources: str, own_addresses: bool = False, unshared: Path | None = None
) -> Iterator[RayCluster]:
    """One node for each string of custom resources (JSON); whatever happens, nothing of it stays.

    All nodes are at 127.0.0.1, or where the system allows it each has an address of its own, and what
    it writes into the folder ``unshared`` is seen by itself alone.
    """
    # Ray's sockets lie in this folder, and the system limits their paths to 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="r1r", dir="/tmp"))
    cluster = RayCluster(folder / "n", unshared=unshared)
    with ExitStack() as stack:
        if own_addresses:
            cluster.next_place = stack.enter_context(namespaces()) or cluster.next_place
        stack.callback(end, cluster, folder)
        for offered in resources:
            cluster.add_node(offered)
        yield cluster


def end(cluster: RayCluster, folder: Path) -> None:
    for node in reversed(range(len(cluster.nodes))):
        cluster.kill_node(node)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            with_kill(process)
    shutil.rmtree(folder, ignore_errors=True)
