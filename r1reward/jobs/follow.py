"""Following a cluster job: its log as it grows, through dropped connections, to its exit status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from r1reward.errors import InputError, ServiceError

logger = logging.getLogger(__name__)

# Ray names no limit of its own for an answer; a request that hangs longer has lost its connection.
ANSWER_LIMIT_S = 30
# A log that is silent this long is asked for anew: a connection can be dead without either side noticing.
SILENCE_LIMIT_S = 60
LONGEST_PAUSE_S = 30
# A cluster that is away longer does not come back with its jobs.
OUTAGE_LIMIT_S = 900

# What Ray's client raises when the cluster cannot be reached or its dashboard is restarting.
CONNECTION_ERRORS = (
    aiohttp.ClientError,
    requests.RequestException,
    ConnectionError,
    TimeoutError,
    RuntimeError,
)


@dataclass(frozen=True)
class Cluster:
    """Ray's job server. ``connect`` raises ``InputError`` with what to do about a refusal."""

    address: str

    def connect(self) -> JobSubmissionClient:
        try:
            return JobSubmissionClient(self.address)
        except AuthenticationError as error:
            raise refused(self.address) from error
        except (ConnectionError, requests.RequestException) as error:
            raise ServiceError(
                f"no Ray cluster answers at {self.address}: it must be the address of its dashboard, "
                "port 8265 by default"
            ) from error


def refused(address: str) -> InputError:
    return InputError(
        f"{address}: the cluster asks for its token, and there is none here or another one: set "
        "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
    )


class JobLog:
    """A job's log as far as it has been written here."""

    def __init__(self, cluster: Cluster, job_id: str, write: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.job_id = job_id
        self.write = write
        self.num_written = 0

    async def follow(self) -> JobDetails:
        """Write the log until the job ends; returns how it ended.

        A connection that drops is opened again. Raises ``ServiceError`` when the cluster stays away or
        has forgotten the job, ``InputError`` when it refuses the token.
        """
        pause_s = 1.0
        heard = time.monotonic()
        while True:
            try:
                client = await in_time(self.cluster.connect)
                ended = (await in_time(client.get_job_info, self.job_id)).status.is_terminal()
                heard, pause_s = time.monotonic(), 1.0
                await self.write_new(client)
                heard = time.monotonic()
                # The log of a job that had ended before it was asked for is whole.
                if ended:
                    details: JobDetails = await in_time(client.get_job_info, self.job_id)
                    return details
            except (*CONNECTION_ERRORS, ServiceError) as error:
                if "does not exist" in str(error):
                    raise ServiceError(
                        f"{self.cluster.address} knows no job {self.job_id}"
                    ) from error
                if time.monotonic() - heard > OUTAGE_LIMIT_S:
                    raise ServiceError(
                        f"{self.cluster.address} has not answered for {OUTAGE_LIMIT_S / 60:.0f} "
                        f"minutes; how the job {self.job_id} ended is not known"
                    ) from error
                logger.warning("lost the connection to %s; trying again", self.cluster.address)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def write_new(self, client: JobSubmissionClient) -> None:
        """Ray sends a log from its beginning each time: what has been written already is skipped."""
        num_received = 0
        async for text in tail(client, self.job_id):
            new = text[max(0, self.num_written - num_received) :]
            num_received += len(text)
            if new:
                self.write(new)
                self.num_written += len(new)

    async def stop(self) -> JobDetails:
        """Ask the job to end and follow it while it writes its checkpoint."""
        client = await in_time(self.cluster.connect)
        await in_time(client.stop_job, self.job_id)
        return await self.follow()


async def tail(client: JobSubmissionClient, job_id: str) -> AsyncIterator[str]:
    """What Ray sends of the log, from the beginning; ends when Ray ends it or says nothing for long."""
    stream = client.tail_job_logs(job_id)
    try:
        while True:
            try:
                yield await asyncio.wait_for(anext(stream), SILENCE_LIMIT_S)
            except (StopAsyncIteration, TimeoutError):
                return
    finally:
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator


async def in_time(call: Callable[..., Any], *arguments: object) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(call, *arguments), ANSWER_LIMIT_S)
