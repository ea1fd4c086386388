"""A Ray cluster of several nodes on this machine: raylet, object store and agents each, with a token."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

BIN = Path(sys.executable).parent
LIMIT_S = 300


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
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    metrics_ports: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What jobs are submitted to."""
        return f"http://127.0.0.1:{self.dashboard_port}"

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
            "RAY_metrics_report_interval_ms": "1000",
            "RAY_raylet_start_wait_time_s": str(LIMIT_S),  # a busy machine needs more than 30 s
        }

    def add_node(self, resources: str = "{}") -> int:
        """Returns the node's number; the first is the head."""
        where = (
            [f"--address=127.0.0.1:{self.port}"]
            if self.nodes
            else [
                "--head",
                f"--port={self.port}",
                "--dashboard-host=127.0.0.1",
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
                *(str(BIN / "ray"), "start", "--block", "--disable-usage-stats", *where),
                *("--node-ip-address=127.0.0.1", "--num-cpus=2", "--num-gpus=0"),
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
        return len(self.nodes) - 1

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

    def wait_ready(self) -> None:
        """Until the job server answers and every node has joined."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                answer = self.get("/api/v0/nodes?limit=100")
                if answer.ok and answer.text.count('"ALIVE"') == len(self.nodes):
                    return
            assert all(node.poll() is None for node in self.nodes), self.logs()
            time.sleep(0.5)
        raise AssertionError(f"the cluster is not up: {self.logs()}")

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
def ray_cluster(*resources: str) -> Iterator[RayCluster]:
    """One node for each string of custom resources (JSON); whatever happens, nothing of it stays."""
    # Ray's sockets lie in this folder, and the system limits their paths to 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="r1r", dir="/tmp"))
    cluster = RayCluster(folder / "n")
    try:
        for offered in resources:
            # One after the other: two that start together would take the same names for their sockets.
            cluster.add_node(offered)
            cluster.wait_ready()
        yield cluster
    finally:
        for node in reversed(range(len(cluster.nodes))):
            cluster.kill_node(node)
        for process in psutil.process_iter(["cmdline"]):
            if any(str(folder) in word for word in process.info["cmdline"] or ()):
                with_kill(process)
        shutil.rmtree(folder, ignore_errors=True)
