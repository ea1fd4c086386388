"""Following a cluster job: its log as it grows, through dropped connections, to its exit status."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, cast

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


def connect(address: str) -> JobSubmissionClient:
    """Returns a client of Ray's job server.

    Raises ``InputError`` if it refuses the token, ``ServiceError`` if nothing answers.
    """
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise token_refused(address) from error
    except (ConnectionError, requests.RequestException) as error:
        raise ServiceError(
            f"no Ray cluster answers at {address}: it must be the address of its dashboard, "
            "port 8265 by default"
        ) from error


def token_refused(address: str) -> InputError:
    return InputError(
        f"{address}: the cluster asks for its token, and there is none here or another one: set "
        "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
    )


@dataclass
class JobLog:
    """The log of a job on the cluster at ``address``; ``num_written`` characters have been shown."""

    address: str
    job_id: str
    write: Callable[[str], None]
    num_written: int = 0

    async def follow(self) -> JobDetails:
        """Writes the log until the job ends, and returns how it ended.

        A connection that drops is opened again. Raises ``ServiceError`` when the cluster stays away or
        has forgotten the job, ``InputError`` when it refuses the token.
        """
        pause_s = 1.0
        last_answer = time.monotonic()
        while True:
            try:
                client = await in_time(connect, self.address)
                ended = (await in_time(client.get_job_info, self.job_id)).status.is_terminal()
                last_answer, pause_s = time.monotonic(), 1.0
                await self.write_new(client)
                last_answer = time.monotonic()
                # The log of a job that had ended before it was asked for is whole.
                if ended:
                    details: JobDetails = await in_time(client.get_job_info, self.job_id)
                    return details
            except (*CONNECTION_ERRORS, ServiceError) as error:
                if "does not exist" in str(error):
                    raise ServiceError(f"{self.address} knows no job {self.job_id}") from error
                if time.monotonic() - last_answer > OUTAGE_LIMIT_S:
                    raise ServiceError(
                        f"{self.address} has not answered for {OUTAGE_LIMIT_S / 60:.0f} "
                        f"minutes; how the job {self.job_id} ended is not known"
                    ) from error
                logger.warning("lost the connection to %s; trying again", self.address)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def write_new(self, client: JobSubmissionClient) -> None:
        """Writes what is new: Ray sends a log from its beginning each time."""
        num_received = 0
        async for text in tail(client, self.job_id):
            new = text[max(0, self.num_written - num_received) :]
            num_received += len(text)
            if new:
                self.write(new)
                self.num_written += len(new)

    async def stop(self) -> JobDetails:
        """Asks the job to end, and follows it while it writes its checkpoint."""
        client = await in_time(connect, self.address)
        await in_time(client.stop_job, self.job_id)
        return await self.follow()


async def tail(client: JobSubmissionClient, job_id: str) -> AsyncIterator[str]:
    """Yields what Ray sends of the log, from its beginning, until Ray ends it or is silent for long."""
    # Ray declares an iterator, and it is a generator.
    stream = cast(AsyncGenerator[str, None], client.tail_job_logs(job_id))
    async with aclosing(stream):
        with suppress(StopAsyncIteration, TimeoutError):
            while True:
                yield await asyncio.wait_for(anext(stream), SILENCE_LIMIT_S)


async def in_time(call: Callable[..., Any], *arguments: object) -> Any:
    """Calls in a thread. Raises ``TimeoutError`` after ``ANSWER_LIMIT_S``."""
    return await asyncio.wait_for(asyncio.to_thread(call, *arguments), ANSWER_LIMIT_S)
