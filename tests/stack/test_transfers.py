"""A weight bundle crosses the network once a node, not once an engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.stack.ray_cluster import RayCluster, ray_cluster

DRIVER = Path(__file__).with_name("transfer_driver.py")
ROOT = DRIVER.parents[2]
QUIET_ROUNDS = 4


def received_bytes(cluster: RayCluster, node: int) -> float:
    """What a node has got from others so far, read until Ray's count stands still."""
    values: list[float] = []
    while len(values) < QUIET_ROUNDS or len(set(values[-QUIET_ROUNDS:])) > 1:
        values.append(cluster.received_bytes(node))
        time.sleep(2)
    return values[-1]


def read_by(cluster: RayCluster, num_readers: int) -> int:
    """Publish a bundle on the head and read it on the other node; returns its bytes."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(num_readers)],
        env=cluster.environment
        | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": f"127.0.0.1:{cluster.port}"},
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_two_engines_of_a_node_cost_one_transfer() -> None:
    with ray_cluster('{"learner": 1}', '{"engine": 2}') as cluster:
        before = received_bytes(cluster, 1)
        size = read_by(cluster, 1)
        one = received_bytes(cluster, 1) - before
        assert read_by(cluster, 2) == size
        two = received_bytes(cluster, 1) - before - one
        assert size <= one < 1.2 * size
        assert size <= two < 1.2 * size
