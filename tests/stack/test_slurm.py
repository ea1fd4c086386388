"""The Slurm script with a real Ray of two nodes; only Slurm's own commands are stand-ins."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
tr , '\\n' <<<"$3"
"""
# The run is a Ray program that tells where it is and ends with a status of its own.
R1REWARD = f"""#!/usr/bin/env bash
[ "$1" != recipe ] || exit 0
exec {sys.executable} - <<'PYTHON'
import os, sys, ray
ray.init(log_to_driver=False, logging_level="ERROR")
alive = sum(node["Alive"] for node in ray.nodes())
answer = ray.get(ray.remote(num_cpus=0.1)(lambda: os.environ["RAY_AUTH_MODE"]).remote())
print("the run sees", alive, "nodes and", answer, flush=True)
sys.exit(9)
PYTHON
"""


def processes_of(job: int) -> list[str]:
    """Command lines that name the job's folder for Ray."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if entry.name.isdigit() and f"/tmp/ray-{job}/" in line:
            found.append(line)
    return found


def test_ray_is_there_for_the_run_with_authentication_and_gone_after_it(tmp_path: Path) -> None:
    # Every process has a number of its own, so no other job of this machine has this one's ports.
    job = os.getpid()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "r1reward": R1REWARD}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for name in ("ray", "python"):
        (tmp_path / name).write_text(
            f'#!/usr/bin/env bash\nexec {Path(sys.executable).parent / name} "$@"\n'
        )
        (tmp_path / name).chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
    running = subprocess.Popen(
        ["bash", str(ROOT / "cluster" / "slurm" / "train.sbatch"), "recipes/any.yaml"],
        cwd=tmp_path,
        env={
            **clean,
            "PATH": f"{tmp_path}:{clean['PATH']}",
            "R1REWARD_BIN": str(tmp_path),
            "SLURM_JOB_ID": str(job),
            "SLURM_JOB_NODELIST": "here,there",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = running.communicate(timeout=300)
    finally:
        if running.poll() is None:
            # It stops Ray itself, whose processes are not all in its group.
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=120)
        shutil.rmtree(f"/tmp/ray-{job}", ignore_errors=True)
    assert "the run sees 2 nodes and token" in output, output
    assert running.returncode == 9
    assert processes_of(job) == []
