"""Sixty rows as people have them, from their files to the score of a served model, past a hostile proxy.

At the end every row is accounted for: dropped for a reason, left out of training for one, trained on, and
scored or refused by the server.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from r1reward.cli.main import main
from r1reward.data.stores.store import iter_pairs
from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.evaluation import read_evaluation
from tests.sixty_rows import (
    NUM_CONTRADICTED,
    NUM_KEPT,
    NUM_LONG,
    NUM_ROWS,
    SOURCES,
    write_source,
)
from tests.stack.conftest import LOCAL

pytestmark = pytest.mark.long

NUM_TRAINED = NUM_KEPT - NUM_CONTRADICTED - NUM_LONG
NUM_STEPS = 2
# Every row but the long one fits.
MAX_PROMPT_TOKENS, MAX_NEW_TOKENS = 480, 96
# Two steps show every pair that is left once.
TRAINING = (
    "judge={type: rule}",
    "data.heldout=null",
    f"model.max_prompt_tokens={MAX_PROMPT_TOKENS}",
    f"model.max_new_tokens={MAX_NEW_TOKENS}",
    "model.max_images=2",
    f"rollout.prompts_per_step={NUM_TRAINED // NUM_STEPS}",
    f"learner.train_batch_size={NUM_TRAINED // NUM_STEPS}",
    f"train.num_steps={NUM_STEPS}",
    "evaluate.every=0",
)
SERVED = "policy"
START_LIMIT_S = 400
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass
class HostileProxy:
    """Takes every connection, keeps what it is asked first, and hangs up."""

    listener: socket.socket
    asked: list[str] = field(default_factory=list)

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    connection.settimeout(1)
                    with suppress(OSError):
                        self.asked.append(connection.recv(200).decode("latin-1"))


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileProxy]:
    """The proxy that the environment names for every address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = HostileProxy(listener)
        threading.Thread(target=running.serve, daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in PROXY_VARIABLES:
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.lower(), address)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield running
        listener.shutdown(socket.SHUT_RDWR)


def run(*words: str) -> str:
    """Runs the program to its end; returns what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "r1reward", *words],
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def imported(folder: Path) -> tuple[Path, Counter[str]]:
    """One store of what the imports keep of all files, and how many rows they drop for which reason."""
    dropped: Counter[str] = Counter()
    stores = []
    num_read = 0
    for source in SOURCES:
        store = folder / f"store-{source.name}"
        assert main(["data", *source.arguments(write_source(source, folder), store)]) == 0
        report = json.loads((store / "report.json").read_text(encoding="utf-8"))
        assert report["num_read"] == report["num_written"] + sum(report["dropped"].values())
        assert (report["num_written"], report["dropped"]) == (source.kept, source.dropped)
        dropped.update(report["dropped"])
        num_read += report["num_read"]
        stores.append(str(store))
    assert num_read == NUM_ROWS == NUM_KEPT + dropped.total()
    assert main(["data", "validate", *stores]) == 0
    pairs = folder / "pairs"
    sources = [word for store in stores for word in ("--source", store)]
    assert main(["data", "mix", *sources, "--out", str(pairs)]) == 0
    assert main(["data", "validate", str(pairs)]) == 0
    return pairs, dropped


def trained_ids(run_dir: Path) -> list[str]:
    """The pairs of every prompt that was sampled."""
    files = sorted((run_dir / "rollouts").glob("step-*.parquet"))
    return [row["pair_id"] for file in files for row in pq.read_table(file).to_pylist()]


@contextmanager
def served(model: Path, log: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The address of vLLM's own server of a model folder, in float32 on the CPU."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", SERVED]
    length = MAX_PROMPT_TOKENS + MAX_NEW_TOKENS
    sizes = ["--max-model-len", str(length), "--max-num-batched-tokens", "4096"]
    sizes += ["--max-num-seqs", "32", "--block-size", "32"]
    sizes += ["--limit-mm-per-prompt", '{"image": 2}', "--mm-processor-cache-gb", "0.1"]
    kind = ["--dtype", "float32", "--enforce-eager"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *where, *sizes, *kind],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, "VLLM_CPU_KVCACHE_SPACE": "1"},
            start_new_session=True,
        )
        try:
            wait_until_it_serves(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_it_serves(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(START_LIMIT_S):
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        with suppress(OSError), direct.open(address, timeout=5):
            return
        time.sleep(1)
    raise AssertionError(f"no server after {START_LIMIT_S} s")


def test_every_row_is_accounted_for(tmp_path: Path, proxy: HostileProxy) -> None:
    pairs, dropped = imported(tmp_path)
    kept = [pair.pair_id for pair in iter_pairs(pairs)]
    assert len(set(kept)) == len(kept) == NUM_KEPT
    long = [pair.pair_id for pair in iter_pairs(pairs) if len(pair.question) > 1000]
    contradicted = [pair.pair_id for pair in iter_pairs(pairs) if "in both?" in pair.question]
    assert (len(contradicted), len(long)) == (NUM_CONTRADICTED, NUM_LONG)

    run_dir = tmp_path / "run"
    source = f"data.train={{type: file, path: {pairs}}}"
    told = run("train", str(LOCAL), source, *TRAINING, f"run_dir={run_dir}")
    assert f"{NUM_CONTRADICTED} of {NUM_KEPT} pairs stand there with both labels" in told
    assert f"data.train: dropped {NUM_LONG} over-long and 0 repeated pairs" in told
    trained = trained_ids(run_dir)
    assert len(trained) == NUM_TRAINED
    assert sorted([*trained, *contradicted, *long]) == sorted(kept)

    out = tmp_path / "eval"
    bench = ("--bench", "pairs", "--data", str(pairs), "--out", str(out))
    asked = ("prompt.template=short", f"model.max_new_tokens={MAX_NEW_TOKENS}")
    with served(run_dir / "model", tmp_path / "server.log", os.environ) as address:
        run("eval", "--endpoint", address, "--model", SERVED, *bench, *asked)
    answers = read_answers(out / "answers.jsonl")
    assert Counter(answer.status for answer in answers) == {
        "answered": 2 * (NUM_KEPT - NUM_LONG),
        "refused": 2 * NUM_LONG,
    }
    assert {answer.item for answer in answers} == set(kept)
    assert {answer.item for answer in answers if answer.status == "refused"} == set(long)
    result = read_evaluation(out / "result.json")
    assert result.missing is not None
    assert (result.missing.num_rows, result.missing.num_rows_asked) == (NUM_LONG, NUM_KEPT)
    num_scored = len(result.rows)
    assert num_scored + result.missing.num_rows + dropped.total() == NUM_ROWS

    own = ("127.0.0.1", "localhost", "[::1]")
    assert not [line for line in proxy.asked if any(host in line for host in own)]
