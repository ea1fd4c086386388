"""Wrong situations that are really there, and what is said about each."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from r1reward.cli.main import main
from r1reward.doctor.connections import (
    check_cluster,
    check_loopback,
    check_ports,
    check_proxies,
)
from r1reward.doctor.devices import check_compiler, check_gpus, check_torchvision, run_python
from r1reward.doctor.folders import check_run_dir, check_shared_memory
from r1reward.doctor.packages import check_python

ROOT = Path(__file__).parents[3]


@pytest.fixture
def occupied() -> Iterator[int]:
    with socket.create_server(("", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_another_version_is_named_with_its_pin(tmp_path: Path) -> None:
    fake = tmp_path / "ray-0.0.1.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 0.0.1\n")
    script = (
        "from r1reward.doctor.packages import check_packages\n"
        "for f in check_packages(): print(f.state, f.check, f.message, '|', f.fix)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    problems = [line for line in done.stdout.splitlines() if line.startswith("problem")]
    assert len(problems) == 1
    assert "ray 0.0.1 is installed, ==2.60.0 is pinned" in problems[0]
    assert "pip install 'ray==2.60.0'" in problems[0]


def test_another_python_is_a_problem() -> None:
    assert check_python(">=3.11").state == "ok"
    found = check_python(">=4")
    assert found.state == "problem" and ">=4 is supported" in found.message


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = check_run_dir(tmp_path / "file" / "run")
    assert found.state == "problem" and "nothing can be written" in found.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_no_run_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        found = check_run_dir(tmp_path / "run")
    finally:
        tmp_path.chmod(0o755)
    assert found.state == "problem" and "Permission denied" in found.message


def test_a_run_folder_is_left_as_it_was(tmp_path: Path) -> None:
    assert check_run_dir(tmp_path / "run").message.startswith(str(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_a_recipe_for_gpus_needs_gpus() -> None:
    found = check_gpus(8)
    assert found.state == "problem" and "wants 8" in found.message and "RAY_ADDRESS" in found.fix
    assert check_gpus(0).state == "ok"


def test_an_occupied_port_is_a_problem_where_it_was_asked_for(occupied: int) -> None:
    (found,) = check_ports((occupied,), must_be_free=True)
    assert found.state == "problem" and f"{occupied} is in use" in found.message
    (found,) = check_ports((occupied,), must_be_free=False)
    assert found.state == "note"


def test_a_small_object_store_is_a_problem(tmp_path: Path) -> None:
    assert check_shared_memory(1000, tmp_path).state == "ok"
    found = check_shared_memory(10**18, tmp_path)
    assert found.state == "problem" and "--shm-size=" in found.fix
    assert check_shared_memory(None, tmp_path / "none").state == "note"


def test_loopback_answers() -> None:
    assert check_loopback().state == "ok"


def test_a_cluster_that_does_not_answer(occupied: int, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    up, auth = check_cluster(home | {"RAY_ADDRESS": f"127.0.0.1:{occupied}"})
    assert up.state == "ok" and auth.state == "note"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    down, _ = check_cluster(home | {"RAY_ADDRESS": f"http://127.0.0.1:{free}"})
    assert down.state == "problem" and "does not answer" in down.message
    wrong, _ = check_cluster(home | {"RAY_ADDRESS": "host:port"})
    assert wrong.state == "problem" and "HOST:6379" in wrong.fix


def test_the_token_is_looked_for_and_never_shown(tmp_path: Path) -> None:
    token_mode = {"RAY_ADDRESS": "auto", "RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    (found,) = check_cluster(token_mode)
    assert found.state == "problem"
    (found,) = check_cluster(token_mode | {"RAY_AUTH_TOKEN": "hush"})
    assert found.state == "ok" and "hush" not in found.message + found.fix
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("hush")
    (found,) = check_cluster(token_mode)
    assert found.state == "ok" and "hush" not in found.message + found.fix
    (found,) = check_cluster({"RAY_ADDRESS": "auto", "RAY_AUTH_MODE": "disabled"})
    assert found.state == "problem" and "RAY_AUTH_MODE=token" in found.fix


def test_offloading_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_compiler(offload=False).state == "ok"
    found = check_compiler(offload=True)
    assert found.state == "problem" and "a C++ compiler and ninja" in found.message


@pytest.mark.slow
def test_torchvision_is_tried_in_a_process_of_its_own() -> None:
    assert check_torchvision().state == "ok"
    assert "No module named" in str(run_python("import there_is_no_such_module"))


@pytest.mark.slow
def test_the_status_says_whether_something_is_wrong(
    occupied: int,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["doctor", "--ports", str(occupied), "--run-dir", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "1 thing to fix" in shown and f"{occupied} is in use" in shown
    assert main(["doctor", "nowhere.yaml"]) == 2


def test_proxies_are_shown_without_their_passwords() -> None:
    assert check_proxies({"NO_PROXY": "a.org"}).state == "ok"
    environment = {
        "https_proxy": "http://me:secret@proxy:3128",
        "ALL_PROXY": "socks5://other",
        "NO_PROXY": "a.org,localhost",
        "HTTP_PROXY": "",
    }
    found = check_proxies(environment)
    assert found.state == "note"
    assert "HTTPS_PROXY is http://***@proxy:3128, ALL_PROXY is socks5://other" in found.message
    assert "NO_PROXY (a.org,localhost)" in found.message
    assert "secret" not in found.message + found.fix
    assert "NO_PROXY (nothing)" in check_proxies({"HTTP_PROXY": "proxy"}).message
