"""The Slurm script, with stand-ins for Slurm, Ray and the run that record what is asked of them."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # runs the batch script with processes of its own

SCRIPT = Path(__file__).parents[3] / "cluster" / "slurm" / "train.sbatch"
RECIPE = "recipes/some.yaml"

# Each logs one line; `ray start --block` logs again when it is told to stop.
PROGRAMS = {
    "scontrol": """case $1 in
        show) tr , '\\n' <<<"$3" ;;
        *) echo "scontrol $*" >>"$LOG" ;;
    esac""",
    "srun": """for option; do
        case $option in
            --nodelist=*) export NODE=${option#*=} ;;
            --*) ;;
            *) break ;;
        esac
        shift
    done
    exec "$@" """,
    "hostname": "echo 10.0.0.7 fe80::1",
    "ray": """if [ "$1" != start ]; then
        grep -q "^start node1" "$LOG"
        exit
    fi
    [ "$NODE" != "${BROKEN_NODE:-}" ] || exit 1
    trap 'echo "stop $NODE" >>"$LOG"; exit 0' TERM
    echo "$NODE $RAY_AUTH_MODE $RAY_AUTH_TOKEN" >>"$LOG.tokens"
    echo "start $NODE $*" >>"$LOG"
    while :; do sleep 0.05; done""",
    "python": """cat >/dev/null
    [ "$(grep -c ^start "$LOG")" -ge "$2" ] && [ -z "${BROKEN_NODE:-}" ]""",
    "r1reward": """if [ "$1" = recipe ]; then [ "$3" != recipes/wrong.yaml ] || exit 2; exit 0; fi
    echo "run $RAY_ADDRESS $*" >>"$LOG"
    eval "$RUN" """,
}
# A run that writes its checkpoint when it is told to stop.
CAREFUL = """trap 'echo checkpoint >>"$LOG"; exit 143' TERM
    echo ready >>"$LOG"
    while :; do sleep 0.05; done"""


@dataclass(frozen=True)
class Job:
    process: subprocess.Popen[str]
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for(self, start: str) -> None:
        deadline = time.monotonic() + 60
        while not any(line.startswith(start) for line in self.lines()):
            assert self.process.poll() is None and time.monotonic() < deadline, self.lines()
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output


@contextmanager
def job(folder: Path, *arguments: str, **environment: str) -> Iterator[Job]:
    """Submit, so to speak. Everything that the script started ends with it."""
    programs = folder / "programs"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / name).chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
    process = subprocess.Popen(
        ["bash", str(SCRIPT), *arguments],
        cwd=folder,
        env={
            **clean,
            "PATH": f"{programs}:{clean['PATH']}",
            "LOG": str(folder / "log"),
            "RUN": "exit 0",
            "R1REWARD_BIN": str(programs),
            "R1REWARD_POLL_S": "0.1",
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "node1,node2,node3",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Job(process, folder / "log")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_ray_starts_on_every_node_and_stops_after_the_run(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE, "seed=3", RUN="exit 7") as running:
        status, output = running.end()
        lines = running.lines()
    assert status == 7, output
    assert lines[0].startswith("start node1 start --head --block --node-ip-address=10.0.0.7")
    assert "--port=24711" in lines[0]
    assert {line.split(" --")[0] for line in lines[1:3]} == {
        "start node2 start",
        "start node3 start",
    }
    assert all("--address=10.0.0.7:24711" in line for line in lines[1:3])
    assert lines[3] == f"run 10.0.0.7:24711 run {RECIPE} seed=3"
    assert sorted(lines[4:]) == ["stop node1", "stop node2", "stop node3"]


def test_every_node_has_the_same_token_and_no_line_shows_it(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE) as running:
        status, output = running.end()
    nodes, modes, tokens = zip(
        *(line.split() for line in (tmp_path / "log.tokens").read_text().splitlines()), strict=True
    )
    assert status == 0
    assert sorted(nodes) == ["node1", "node2", "node3"]
    assert set(modes) == {"token"}
    assert len(set(tokens)) == 1 and re.fullmatch("[0-9a-f]{64}", tokens[0])
    assert tokens[0] not in output + "".join(running.lines())


def test_a_token_that_is_given_is_used(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE, RAY_AUTH_TOKEN="mine") as running:
        running.end()
    assert {line.split()[2] for line in (tmp_path / "log.tokens").read_text().splitlines()} == {
        "mine"
    }


def test_rl_alone_is_another_verb(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE, R1REWARD_VERB="train", SLURM_JOB_NODELIST="node1") as running:
        assert running.end()[0] == 0
    assert running.lines()[1] == f"run 10.0.0.7:24711 train {RECIPE}"


@pytest.mark.parametrize("arguments", [(), ("recipes/wrong.yaml",)])
def test_wrong_input_ends_the_job_before_ray_starts(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with job(tmp_path, *arguments) as running:
        assert running.end()[0] == 2
    assert running.lines() == []


def test_a_missing_installation_is_named(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE, R1REWARD_BIN=str(tmp_path / "nowhere")) as running:
        status, output = running.end()
    assert status == 2
    assert f"{tmp_path}/nowhere/ray is not there: run 'make setup'" in output


def test_a_node_whose_ray_fails_ends_the_job_and_stops_the_others(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE, BROKEN_NODE="node2") as running:
        status, output = running.end()
        lines = running.lines()
    assert status == 1
    assert "a node's Ray ended while the job waited for all 3 nodes" in output
    # The third may be stopped before it is up.
    started = {line.split()[1] for line in lines if line.startswith("start")}
    assert {"node1"} <= started == {line.split()[1] for line in lines if line.startswith("stop")}
    assert not any(line.startswith("run") for line in lines)


def test_nodes_that_do_not_come_end_the_job(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE, BROKEN_NODE="another", R1REWARD_WAIT_S="1") as running:
        status, output = running.end()
    assert status == 1
    assert "waited in vain for all 3 nodes: R1REWARD_WAIT_S is 1 s" in output


def test_before_the_time_limit_the_run_stops_and_the_job_is_queued_again(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE, RUN=CAREFUL) as running:
        running.wait_for("ready")
        running.process.send_signal(signal.SIGUSR1)
        status, _ = running.end()
    lines = running.lines()
    assert status == 143
    assert lines[4:6] == ["ready", "checkpoint"], "Ray is there until the run has ended"
    assert sorted(lines[6:9]) == ["stop node1", "stop node2", "stop node3"]
    assert lines[9:] == ["scontrol requeue 4711"]


def test_a_run_that_ends_well_is_not_queued_again(tmp_path: Path) -> None:
    finishing = "trap 'exit 0' TERM; echo ready >>\"$LOG\"; while :; do sleep 0.05; done"
    with job(tmp_path, RECIPE, RUN=finishing) as running:
        running.wait_for("ready")
        running.process.send_signal(signal.SIGUSR1)
        assert running.end()[0] == 0
    assert "scontrol requeue 4711" not in running.lines()


def test_a_cancelled_job_writes_its_checkpoint_and_stays_away(tmp_path: Path) -> None:
    with job(tmp_path, RECIPE, RUN=CAREFUL) as running:
        running.wait_for("ready")
        running.process.send_signal(signal.SIGTERM)
        assert running.end()[0] == 143
    assert "checkpoint" in running.lines()
    assert "stop node3" in running.lines()
    assert "scontrol requeue 4711" not in running.lines()


def test_a_run_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo ready >>\"$LOG\"; while :; do sleep 0.05; done"
    with job(tmp_path, RECIPE, RUN=deaf, R1REWARD_GRACE_S="1") as running:
        running.wait_for("ready")
        running.process.send_signal(signal.SIGUSR1)
        status, output = running.end()
    assert status == 137
    assert "still there after R1REWARD_GRACE_S (1 s): killed" in output
    assert "stop node1" in running.lines()


def test_the_run_has_less_time_to_stop_than_slurm_gives() -> None:
    text = SCRIPT.read_text()
    warning = re.search(r"^#SBATCH --signal=B:USR1@(\d+)$", text, re.MULTILINE)
    grace = re.search(r"R1REWARD_GRACE_S:-(\d+)", text)
    assert warning and grace
    # Ray drains its nodes for up to 30 seconds when it is stopped.
    assert int(grace[1]) + 60 <= int(warning[1])
