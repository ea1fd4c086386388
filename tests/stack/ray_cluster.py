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

BIN = Path(sys.executable).parent
LIMIT_S = 120


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
            "RAY_JOB_STOP_WAIT_TIME_S": "60",
            # A node that was killed is dead after 2 missed answers, not after 5 of 10 s each.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "2",
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
                f"--temp-dir={self.folder}",
            ]
        )
        log = (self.folder.parent / f"node-{len(self.nodes)}.log").open("wb")
        node = subprocess.Popen(
            [
                *(str(BIN / "ray"), "start", "--block", "--disable-usage-stats", *where),
                *("--node-ip-address=127.0.0.1", "--num-cpus=2", "--num-gpus=0"),
                *(f"--resources={resources}", "--object-store-memory=157286400"),
                *("--min-worker-port=0", "--max-worker-port=0"),
                f"--dashboard-agent-listen-port={free_port()}",
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

    def wait_ready(self) -> None:
        """Until the job server answers and every node has joined."""
        command = [str(BIN / "ray"), "list", "nodes", f"--address={self.address}", "--format=json"]
        deadline = time.monotonic() + LIMIT_S
        said = ""
        while time.monotonic() < deadline:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            said = done.stdout + done.stderr
            if done.returncode == 0 and said.count('"ALIVE"') == len(self.nodes):
                return
            assert all(node.poll() is None for node in self.nodes), self.logs()
            time.sleep(0.5)
        raise AssertionError(f"the cluster is not up: {said}\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(p.read_text(errors="replace") for p in self.folder.parent.glob("*.log"))


def with_kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)


@contextmanager
def ray_cluster(*resources: str) -> Iterator[RayCluster]:
    """One node for each string of custom resources (JSON); whatever happens, nothing of it stays."""
    # Ray's sockets lie in this folder, and the system limits their paths to 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="r1r", dir="/tmp"))
    cluster = RayCluster(folder / "ray")
    try:
        for offered in resources:
            cluster.add_node(offered)
            if len(cluster.nodes) == 1:
                wait_for_port(cluster.port, cluster)
        cluster.wait_ready()
        yield cluster
    finally:
        for node in reversed(range(len(cluster.nodes))):
            cluster.kill_node(node)
        for process in psutil.process_iter(["cmdline"]):
            if any(str(folder) in word for word in process.info["cmdline"] or ()):
                with_kill(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_port(port: int, cluster: RayCluster) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert cluster.nodes[0].poll() is None, cluster.logs()
        time.sleep(0.2)
    raise AssertionError(cluster.logs())
