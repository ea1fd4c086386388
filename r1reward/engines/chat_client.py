"""A client for OpenAI-compatible chat endpoints."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import httpx

RETRIED_STATUS = {408, 409, 429, 500, 502, 503, 504}


class EndpointError(RuntimeError):
    """The endpoint did not answer after every retry, or refused the request for good."""


class ChatClient:
    """One endpoint, a bounded number of requests at a time, patient with overload.

    Sampling settings are always sent: a server's own defaults may come from the model's generation
    config. ``extra_body`` carries fields outside OpenAI's API (vLLM's top_k, for example).
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key_env: str,
        timeout_s: float,
        max_concurrent: int,
        extra_body: Mapping[str, float],
        max_retries: int = 4,
        backoff_s: float = 0.5,
    ) -> None:
        key = os.environ.get(api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/", headers=headers, timeout=timeout_s
        )
        self.model = model
        self.slots = asyncio.Semaphore(max_concurrent)
        self.extra_body = extra_body
        self.max_retries = max_retries
        self.backoff_s = backoff_s

    async def complete(self, text: str, temperature: float, max_tokens: int, seed: int) -> str:
        """The reply to one user turn. Raises ``EndpointError``."""
        body = {
            **self.extra_body,
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": temperature,
            "top_p": 1.0,
            "max_tokens": max_tokens,
            "seed": seed,
        }
        async with self.slots:
            for attempt in range(self.max_retries + 1):
                if attempt:
                    await asyncio.sleep(self.backoff_s * 2 ** (attempt - 1))
                try:
                    reply = await self.http.post("chat/completions", json=body)
                except httpx.TransportError as error:
                    problem = f"{type(error).__name__}: {error}"
                    continue
                if reply.status_code in RETRIED_STATUS:
                    problem = f"HTTP {reply.status_code}"
                    continue
                if reply.is_error:
                    raise EndpointError(f"HTTP {reply.status_code}: {reply.text[:200]}")
                try:
                    content = reply.json()["choices"][0]["message"]["content"]
                except (ValueError, LookupError, TypeError) as error:
                    raise EndpointError(f"not a chat completion: {reply.text[:200]}") from error
                if not isinstance(content, str):
                    raise EndpointError(f"not a chat completion: {reply.text[:200]}")
                return content
        raise EndpointError(f"{self.http.base_url}: no answer after {attempt + 1} tries; {problem}")
