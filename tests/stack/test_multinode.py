"""A job on a cluster of three nodes: sent, followed through a cut connection, robbed of a node.

As root on Linux with iproute2 every node has a network namespace and an address of its own, and its
name points to another, as on many real machines. Elsewhere all nodes are at 127.0.0.1.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from tests.stack.conftest import LOCAL
from tests.stack.ray_cluster import RayCluster, ray_cluster

pytestmark = pytest.mark.long

ROOT = LOCAL.parents[1]
LIMIT_S = 900
NUM_STEPS = 8
SETTINGS = (
    "judge={type: rule}",
    "data.train.num_pairs=64",
    "data.heldout=null",
    "rollout.num_actors=2",
    "rollout.prompts_per_step=16",
    "learner.num_ranks=2",
    "learner.train_batch_size=16",
    f"train.num_steps={NUM_STEPS}",
    "train.checkpoint_every=100",
    "placement.threads=1",
    "placement.strategy=spread",
    "placement.resources={rollout: {engine: 1}, learner: {learner: 1}, judge: {judge: 1}}",
    "tracking.wandb_project=multinode",
)
# Spread over these, one learner rank and one engine are on the head with driver and judge, the other
# rank and the other engine on nodes of their own. The head alone has room for both ranks.
HEAD, RANK, ENGINE = '{"judge": 1, "learner": 2, "engine": 1}', '{"learner": 1}', '{"engine": 1}'


class Proxy:
    """Between submit and the cluster, so that their connections can be cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.server.accept()
                far = socket.create_connection(self.target)
                self.pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def cut(self) -> None:
        for ends in self.pairs:
            for end in ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.pairs.clear()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxy_to(cluster: RayCluster) -> Iterator[Proxy]:
    proxy = Proxy((cluster.places[0].address, cluster.dashboard_port))
    try:
        yield proxy
    finally:
        proxy.cut()
        proxy.server.close()


@dataclass
class Submission:
    """A running `r1reward submit`, what it prints, and its run folder."""

    process: subprocess.Popen[str]
    run_dir: Path
    cluster: RayCluster

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            if self.process.poll() is not None:
                said = "".join(self.process.communicate())
                raise AssertionError(f"ended before {what}:\n{said}\n{self.cluster.logs()}")
            assert time.monotonic() < deadline, f"no {what}"
            time.sleep(0.05)

    def wait_for_step(self, step: int) -> None:
        self.wait_for(lambda: len(metrics(self.run_dir)) >= step, f"step {step}")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out, err


@contextmanager
def submitted(
    cluster: RayCluster, address: str, run_dir: Path, *more: str, **environment: str
) -> Iterator[Submission]:
    command = [sys.executable, "-m", "r1reward", "submit", str(LOCAL), "--address", address]
    process = subprocess.Popen(
        [*command, *SETTINGS, f"run_dir={run_dir}", *more],
        cwd=ROOT,
        env=cluster.environment | {"PYTHONPATH": str(ROOT)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test suite in the background of a shell ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield Submission(process, run_dir, cluster)
    finally:
        process.kill()
        process.communicate()


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def model_of(run_dir: Path) -> Path:
    return run_dir / "model" / "model.safetensors"


def num_engines(run_dir: Path) -> list[int]:
    return [line["rollout/num_engines"] for line in metrics(run_dir)]


def job_log(cluster: RayCluster, job_id: str) -> str:
    answer = cluster.get(f"/api/jobs/{job_id}/logs")
    answer.raise_for_status()
    return str(answer.json()["logs"])


def running_job_log(cluster: RayCluster) -> str:
    (job,) = (job for job in cluster.get("/api/jobs/").json() if job["status"] == "RUNNING")
    return job_log(cluster, job["submission_id"])


def nodes_of(cluster: RayCluster, actor: str) -> list[int]:
    """Numbers of the nodes where the actors of a class are now."""
    alive = (a for a in cluster.listed("actors") if a["state"] == "ALIVE")
    return sorted(cluster.node_ids.index(a["node_id"]) for a in alive if a["class_name"] == actor)


@contextmanager
def frozen_learner(cluster: RayCluster) -> Iterator[None]:
    """So that the run has steps left, however long what happens meanwhile takes."""
    ranks: list[psutil.Process] = []
    for node in range(len(cluster.nodes)):
        for process in cluster.processes(node):
            with suppress(psutil.NoSuchProcess):  # some come and go
                if " ".join(process.cmdline()).startswith("ray::LearnerActor"):
                    ranks.append(process)
    assert len(ranks) == 2
    for rank in ranks:
        rank.suspend()
    try:
        yield
    finally:
        for rank in ranks:
            rank.resume()


def job_id_in(printed: str) -> str:
    return printed.partition("passing on the values")[2].partition(" job ")[2].split()[0]


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """Where runs work whose folder is at a URL; each node has its own."""
    folder = Path(tempfile.mkdtemp(prefix="r1r-tmp-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[RayCluster]:
    with ray_cluster(HEAD, RANK, ENGINE, own_addresses=True, unshared=scratch) as running:
        yield running


@dataclass(frozen=True)
class Story:
    """What was left of a job whose connection was cut and one of whose nodes was killed."""

    run_dir: Path
    status: int
    out: str
    err: str
    log: str
    secret: str
    killed_after: int
    learner_nodes: list[int]
    engine_nodes: list[int]
    received_bytes: float


@pytest.fixture(scope="module")
def story(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Story:
    run_dir = tmp_path_factory.mktemp("shared") / "run"
    secret = secrets.token_hex(20)
    with (
        proxy_to(cluster) as proxy,
        submitted(
            cluster,
            proxy.address,
            run_dir,
            *("--secret", "WANDB_API_KEY", "--secret", "OPENAI_API_KEY"),
            WANDB_API_KEY=secret,
            OPENAI_API_KEY=f"sk-{secret}",
        ) as job,
    ):
        job.wait_for_step(2)
        proxy.cut()
        job.wait_for_step(3)
        learner_nodes = nodes_of(cluster, "LearnerActor")
        cluster.kill_node(2)
        killed_after = len(metrics(run_dir))
        job.wait_for(lambda: 1 in num_engines(run_dir), "step with one engine")
        with frozen_learner(cluster):
            cluster.add_node(ENGINE)
            job.wait_for(lambda: "is back" in running_job_log(cluster), "second engine again")
        engine_nodes = nodes_of(cluster, "RolloutActor")
        status, out, err = job.end()
    log = job_log(cluster, job_id_in(err))
    received = cluster.received_bytes(3)
    return Story(
        *(run_dir, status, out, err, log, secret),
        *(killed_after, learner_nodes, engine_nodes, received),
    )


def test_the_run_over_three_nodes_ends_well_though_a_node_dies(story: Story) -> None:
    assert story.status == 0, story.out + story.err
    assert [line["step"] for line in metrics(story.run_dir)] == list(range(1, NUM_STEPS + 1))
    assert story.killed_after < NUM_STEPS
    for step in range(1, NUM_STEPS + 1):
        path = story.run_dir / "rollouts" / f"step-{step:06d}.parquet"
        assert pq.read_metadata(path).num_rows == 16
    assert "1 others go on" in story.log
    assert model_of(story.run_dir).is_file()


def test_the_engine_of_the_dead_node_comes_back_on_another_with_the_newest_weights(
    story: Story,
) -> None:
    engines = num_engines(story.run_dir)
    assert [number for number, _ in groupby(engines)] == [2, 1, 2]
    assert engines.index(1) >= story.killed_after
    assert story.engine_nodes == [0, 3]
    assert story.received_bytes > model_of(story.run_dir).stat().st_size


def test_the_ranks_of_the_learner_are_on_two_nodes(story: Story) -> None:
    assert story.learner_nodes == [0, 1]


def test_the_log_is_followed_without_repeating_or_losing_a_line(story: Story) -> None:
    assert "lost the connection" in story.err
    assert story.out == story.log
    assert f"step {NUM_STEPS}/{NUM_STEPS}" in story.out


def test_a_stopped_job_has_a_checkpoint_and_the_same_command_resumes(
    story: Story, cluster: RayCluster, tmp_path: Path, scratch: Path
) -> None:
    """Ctrl-C at the terminal, yes. As it resumes, the first driver's disk and a rank's node are gone.

    The nodes share nothing but the storage that the run folder's URL names.
    """
    url, copy, run_dir = f"file://{tmp_path}/store/run", tmp_path / "store" / "run", scratch / "run"
    with submitted(cluster, cluster.address, run_dir, f"run_url={url}") as job:
        job.wait_for_step(1)
        assert nodes_of(cluster, "LearnerActor") == [0, 1]
        job.process.send_signal(signal.SIGINT)
        assert job.process.stdin is not None
        job.process.stdin.write("y\n")
        job.process.stdin.flush()
        status, out, err = job.end()
    assert status == 130, out + err
    assert "stop the job local-" in err
    assert "stopped after step" in out
    done = len(metrics(run_dir))
    assert done < NUM_STEPS
    (checkpoint,) = (copy / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{done:06d}"
    assert {"loop.json"} < {path.name for path in checkpoint.iterdir()}
    assert len(list(checkpoint.glob("learner-*/learner/*optim_states.pt"))) == 2
    cluster.kill_node(1)
    cluster.wait_until_missed(1)
    shutil.rmtree(run_dir)
    with submitted(cluster, cluster.address, run_dir, f"run_url={url}") as job:
        job.wait_for_step(done + 1)
        assert nodes_of(cluster, "LearnerActor") == [0, 0]
        status, out, err = job.end()
    assert status == 0, out + err
    assert f"resuming after step {done}" in out
    assert [line["step"] for line in metrics(run_dir)] == list(range(1, NUM_STEPS + 1))
    same = ("learner/loss", "reward/total", "advantage/std")
    for mine, other in zip(metrics(run_dir), metrics(story.run_dir), strict=True):
        assert [mine[name] for name in same] == [other[name] for name in same]
    assert model_of(copy).read_bytes() == model_of(story.run_dir).read_bytes()


def test_a_secret_is_in_no_file_of_the_run_and_in_nothing_that_is_printed(story: Story) -> None:
    secret = story.secret.encode()
    files = [path for path in story.run_dir.rglob("*") if path.is_file()]
    assert any("wandb" in str(path) for path in files)
    assert [path for path in files if secret in path.read_bytes()] == []
    assert story.secret not in story.out + story.err
    assert "WANDB_API_KEY" in story.err
