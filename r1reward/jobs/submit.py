"""``r1reward submit``: a recipe as a job of a Ray cluster, its log and exit status here."""

import asyncio
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus

from r1reward.errors import InputError, ServiceError
from r1reward.jobs.follow import CONNECTION_ERRORS, JobLog, connect, token_refused
from r1reward.jobs.package import JOB_RECIPE, check_paths, tree_files, write_package
from r1reward.recipe.derive import is_pipeline
from r1reward.recipe.recipe import Recipe

logger = logging.getLogger(__name__)

# They set their own level, and tell of every connection and upload.
for noisy in ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
    logging.getLogger(noisy).setLevel(logging.WARNING)

# What Ray gives a job between asking it to end and killing it; its default of 3 s is too short for a
# checkpoint. The process that stops the job runs in the job's environment and reads it there.
STOP_WAIT, STOP_WAIT_S = "RAY_JOB_STOP_WAIT_TIME_S", "900"


@dataclass(frozen=True)
class JobRequest:
    """What to run where, from the working tree ``root``.

    ``secret_names`` are environment variables whose values travel in the job's environment.
    """

    recipe: Recipe
    address: str
    verb: str | None = None
    secret_names: Sequence[str] = ()
    exclude: Sequence[str] = ()
    root: Path = Path()

    @property
    def job_verb(self) -> str:
        return self.verb or ("run" if is_pipeline(self.recipe) else "train")


def submit(request: JobRequest, wait: bool, write: Callable[[str], None]) -> int:
    """Sends the job and follows it. Returns its exit status, or 0 once it is sent without ``wait``.

    Raises ``InputError`` before anything is sent if the job could not run, ``ServiceError`` if the
    cluster does not take it.
    """
    address = checked_address(request.address)
    job_id = send(request, address)
    logger.info("job %s is on %s", job_id, address)
    if not wait:
        write(next_commands(address, job_id))
        return 0
    log = JobLog(address, job_id, write)
    try:
        ended = asyncio.run(log.follow())
    except KeyboardInterrupt:
        if not user_wants_stop(job_id):
            write(f"\nthe job goes on\n{next_commands(address, job_id)}")
            return 130
        ended = asyncio.run(log.stop())
    if ended.message and ended.driver_exit_code is None:
        values = [os.environ[name] for name in request.secret_names]
        logger.info("job %s: %s", job_id, without_secrets(ended.message, values))
    return exit_status(ended.status, ended.driver_exit_code)


def exit_status(status: JobStatus, code: int | None) -> int:
    """Returns the status of the job's command, 130 if the job was stopped, 1 if it never started."""
    if status == JobStatus.SUCCEEDED:
        return 0
    if status == JobStatus.STOPPED:
        return 130
    if code is None:
        return 1
    # A command that a signal ended has minus its number; a shell says 128 plus it.
    return code if code > 0 else 128 - code


def checked_address(address: str) -> str:
    """Returns the address for Ray's client. Raises ``InputError`` for one that it cannot use."""
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.netloc or "@" in url.netloc:
        raise InputError(
            f"--address is {address!r}: give the address of the cluster's dashboard, for example "
            "http://head:8265, and nothing secret in it"
        )
    # Ray's client prefers these to the address that it is given.
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    return address.rstrip("/")


def send(request: JobRequest, address: str) -> str:
    """Packs the tree and submits the job. Returns the job's id."""
    environment = read_secrets(request.secret_names)
    root = request.root.resolve()
    files = tree_files(root, request.exclude)
    check_paths(request.recipe, root, files)
    job_id = f"{request.recipe.name}-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "tree.zip"
        write_package(root, files, request.recipe, package)
        megabytes = package.stat().st_size / 2**20
        logger.info("shipping %d files of %s, %.1f MB packed", len(files), root, megabytes)
        if environment:
            logger.info("passing on the values of %s", ", ".join(environment))
        client = connect(address)
        try:
            sent: str = client.submit_job(
                entrypoint=f"python -m r1reward {request.job_verb} {JOB_RECIPE}",
                submission_id=job_id,
                runtime_env={
                    "working_dir": str(package),
                    "env_vars": {STOP_WAIT: os.environ.get(STOP_WAIT, STOP_WAIT_S), **environment},
                },
            )
            return sent
        except AuthenticationError as error:
            raise token_refused(address) from error
        except CONNECTION_ERRORS as error:
            reason = without_secrets(str(error), environment.values())
            raise ServiceError(f"{address} did not take the job: {reason}") from None


def read_secrets(names: Sequence[str]) -> dict[str, str]:
    """Returns the values of environment variables. Raises ``InputError`` for one that is not set."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"--secret names {', '.join(missing)}, which is not set here: set it, or leave it out if "
            "the cluster's nodes have it in their environment"
        )
    return {name: os.environ[name] for name in names}


def without_secrets(text: str, values: Iterable[str]) -> str:
    for value in values:
        text = text.replace(value, "***")
    return text


def user_wants_stop(job_id: str) -> bool:
    """Asks after Ctrl-C: only a yes stops the remote job. A second Ctrl-C or no terminal is a no."""
    print(f"\nstop the job {job_id}? [y/N] ", end="", file=sys.stderr, flush=True)
    with suppress(KeyboardInterrupt, EOFError):
        return input().strip().lower() in ("y", "yes")
    return False


def next_commands(address: str, job_id: str) -> str:
    """Returns the commands of Ray that follow or stop the job."""
    end = f"{job_id} --address {address}"
    return f"follow it  ray job logs --follow {end}\nstop it    ray job stop {end}\n"
