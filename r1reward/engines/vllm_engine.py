"""One vLLM engine with continuous batching in a thread of its own.

Requests submitted together enter the scheduler together, so what an engine computes does not depend
on when its callers woke up. A weight update waits until no request is in flight: no rollout mixes
weights, and no cached key or value outlives the weights that made it.
"""

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import numpy as np
from vllm import LLM, RequestOutput, SamplingParams
from vllm.config import WeightTransferConfig
from vllm.inputs import PromptType
from vllm.sampling_params import RequestOutputKind

from r1reward.data.images import decode_image
from r1reward.engines.library_calls import VLLM, require_calls
from r1reward.engines.vllm_weight_transfer import BACKEND
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics, Name, maximum
from r1reward.models.family import family_of, load_config
from r1reward.models.model_folder import resolve_model_path
from r1reward.recipe.components import EngineSettings
from r1reward.types import FinishReason, WeightsHandle

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Another worker may report the broken connection before vLLM has seen that one is gone.
NOTICED_WITHIN_S = 5


@dataclass(frozen=True)
class EngineRequest:
    """``token_ids`` carry one pad token an image. ``banned_token_ids`` are never sampled."""

    token_ids: tuple[int, ...]
    images: tuple[bytes, ...]
    seed: int
    sampling: Sampling
    banned_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Completion:
    """The fields of a ``Rollout`` that the engine knows; ``logprobs`` are those before any ban."""

    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    text: str
    logprobs: np.ndarray
    policy_versions: np.ndarray
    finish_reason: FinishReason


class EngineBrokenError(RuntimeError):
    """A weight update failed half-way: the engine holds a mixture and must not sample from it."""


class VllmEngine:
    """Owns the LLM. All public methods may be called from any thread.

    With ``tensor_parallel_size`` above 1 its model is in worker processes. When one of those dies, this
    process ends too, as it would with the whole model in it: whoever watches it starts another.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.version = 0
        self.broken = False
        self.futures: dict[str, Future[Completion]] = {}
        self.commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.stopping = False
        self.prepare_images_s = 0.0
        self.ids = itertools.count()
        # The engine is built in the thread that steps it: OpenMP pools belong to a thread.
        ready: Future[None] = Future()
        arguments = (llm_arguments(settings), ready)
        self.thread = threading.Thread(target=self.run, args=arguments, daemon=True)
        self.thread.start()
        ready.result()

    def submit(self, requests: Sequence[EngineRequest]) -> list[Future[Completion]]:
        """Add requests in one go; each future resolves when its trace is complete."""
        futures: list[Future[Completion]] = [Future() for _ in requests]
        self.commands.put(lambda: self.add(requests, futures))
        return futures

    def load_weights(self, handle: WeightsHandle, buckets: Sequence[np.ndarray]) -> Future[Metrics]:
        """Swap in a complete bundle once the engine is empty; resolves to the seconds of it.

        With them are those that images took since the bundle before.
        """
        return self.when_empty(lambda: self.apply(handle, buckets))

    def sleep(self) -> Future[None]:
        """Leave the GPU once the engine is empty: weights to host memory, the cache forgotten.

        Needs ``placement.takes_turns``; nothing may be submitted before ``wake_up``.
        """
        return self.when_empty(self.fall_asleep)

    def wake_up(self) -> Future[None]:
        """Come back to the GPU with the weights it left with."""
        return self.when_empty(lambda: self.llm.wake_up())

    def when_empty(self, action: Callable[[], T]) -> Future[T]:
        """Run in the engine's thread once no request is in flight. A failure breaks the engine."""
        future: Future[T] = Future()

        def command() -> None:
            try:
                while self.core.has_unfinished_requests():
                    self.step()
                future.set_result(action())
            except BaseException as error:
                self.fail(error)
                future.set_exception(error)

        self.commands.put(command)
        return future

    def stop(self) -> None:
        self.stopping = True
        self.commands.put(lambda: None)
        self.thread.join(timeout=30)

    # Everything below runs in the engine's thread.

    def run(self, arguments: dict[str, Any], ready: Future[None]) -> None:
        try:
            require_calls(VLLM)
            self.llm = LLM(**arguments)
            self.core = self.llm.llm_engine
            self.core.model_executor.register_failure_callback(end_process)
            self.llm.collective_rpc("init_weight_transfer_engine", kwargs={"init_info": {}})
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        while not self.stopping:
            try:
                if self.core.has_unfinished_requests() and self.commands.empty():
                    self.step()
                else:
                    self.commands.get()()
            except Exception as error:
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """What the scheduler holds now is unknown: who waits gets the error, who comes is refused."""
        self.end_if_a_worker_died()
        self.broken = True
        for future in self.futures.values():
            future.set_exception(error)
        self.futures.clear()

    def end_if_a_worker_died(self) -> None:
        """The step that fails of it knows before vLLM calls ``end_process``, or finds out itself."""
        executor = self.core.model_executor
        deadline = time.monotonic() + NOTICED_WITHIN_S
        while hasattr(executor, "is_failed") and time.monotonic() < deadline:
            if executor.is_failed:
                end_process()
            time.sleep(0.1)

    def add(self, requests: Sequence[EngineRequest], futures: Sequence[Future[Completion]]) -> None:
        for request, future in zip(requests, futures, strict=True):
            try:
                if self.broken:
                    raise EngineBrokenError("the engine needs a full weight bundle first")
                request_id = str(next(self.ids))
                started = time.monotonic()
                self.core.add_request(request_id, vllm_prompt(request), sampling_params(request))
                if request.images:
                    # Decoded and resized there, in this thread: no step runs meanwhile.
                    self.prepare_images_s += time.monotonic() - started
                self.futures[request_id] = future
            except Exception as error:
                # One request that vLLM refuses must not take its neighbours along.
                future.set_exception(error)

    def step(self) -> None:
        for output in self.core.step():
            if isinstance(output, RequestOutput) and output.finished:
                # Nobody waits any more for what was in flight when a step failed.
                future = self.futures.pop(output.request_id, None)
                if future is not None:
                    future.set_result(completion(output, self.version))

    def fall_asleep(self) -> None:
        # What was cached is gone with the memory; no request may be told otherwise.
        self.llm.reset_prefix_cache()
        self.core.reset_encoder_cache()
        self.llm.sleep(level=1)

    def apply(self, handle: WeightsHandle, buckets: Sequence[np.ndarray]) -> Metrics:
        """start, update bucket by bucket, finish; then forget everything cached from old weights."""
        started = time.monotonic()
        self.llm.collective_rpc("start_weight_update")
        for header, data in zip(handle.buckets, buckets, strict=True):
            info = {"header": header, "data": data}
            self.llm.collective_rpc("update_weights", kwargs={"update_info": info})
        self.llm.collective_rpc("finish_weight_update")
        self.llm.reset_prefix_cache()
        self.core.reset_encoder_cache()
        self.version = handle.version
        self.broken = False
        images_s, self.prepare_images_s = self.prepare_images_s, 0.0
        return {
            Name.TIME_WEIGHT_SWAP_S: maximum(time.monotonic() - started),
            Name.TIME_ENGINE_PREPARE_IMAGES_S: maximum(images_s),
        }


def end_process() -> None:
    logger.error("a worker of this engine died, and the engine with it")
    os._exit(1)


def llm_arguments(settings: EngineSettings) -> dict[str, Any]:
    """What vLLM's ``LLM`` is started with."""
    model, engine = settings.model, settings.engine
    config = load_config(model.path)
    arguments: dict[str, Any] = {
        "model": resolve_model_path(model.path),
        "dtype": model.dtype,
        "max_model_len": model.max_sequence_tokens,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "max_num_seqs": engine.max_num_seqs,
        "enforce_eager": engine.enforce_eager,
        "mm_processor_cache_gb": engine.mm_processor_cache_gb,
        "max_num_batched_tokens": engine.max_num_batched_tokens,
        "block_size": engine.block_size,
        "logprobs_mode": "raw_logprobs",
        "weight_transfer_config": WeightTransferConfig(backend=BACKEND),
        "generation_config": "vllm",
        "disable_log_stats": True,
        "enable_sleep_mode": settings.placement.takes_turns,
        "seed": 0,
    }
    vision = family_of(config).vision
    if vision is not None:
        # How large images may be, and how many media a prompt may have.
        arguments["mm_processor_kwargs"] = vision.limits(
            config, model.min_image_tokens, model.max_image_tokens
        )
        other_media = dict.fromkeys(vision.other_media, 0)
        arguments["limit_mm_per_prompt"] = {"image": model.max_images} | other_media
    if engine.tensor_parallel_size > 1:
        # Inside a placement group vLLM would ask Ray for an actor a worker; the GPUs are here already.
        arguments["distributed_executor_backend"] = "mp"
    if engine.kv_cache_memory_mb is not None:
        arguments["kv_cache_memory_bytes"] = engine.kv_cache_memory_mb * 2**20
    if settings.placement.device == "cpu":
        # Seeded sampling of a chunked prefill is not implemented by the CPU backend.
        arguments["enable_chunked_prefill"] = False
    return arguments


def vllm_prompt(request: EngineRequest) -> PromptType:
    prompt: dict[str, Any] = {"prompt_token_ids": list(request.token_ids)}
    if request.images:
        prompt["multi_modal_data"] = {"image": [decode_image(i) for i in request.images]}
    return cast(PromptType, prompt)


def sampling_params(request: EngineRequest) -> SamplingParams:
    """Plain sampling at the given temperature and top_p, ended by EOS only."""
    return SamplingParams(
        n=1,
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        top_k=0,
        seed=request.seed,
        max_tokens=request.sampling.max_new_tokens,
        logprobs=0,
        logit_bias=dict.fromkeys(request.banned_token_ids, -100.0) or None,
        skip_special_tokens=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion(output: RequestOutput, version: int) -> Completion:
    sampled = output.outputs[0]
    assert sampled.logprobs is not None and output.prompt_token_ids is not None
    logprobs = [
        entry[token_id].logprob
        for entry, token_id in zip(sampled.logprobs, sampled.token_ids, strict=True)
    ]
    return Completion(
        prompt_token_ids=tuple(output.prompt_token_ids),
        response_token_ids=tuple(sampled.token_ids),
        text=sampled.text,
        logprobs=np.asarray(logprobs, dtype=np.float32),
        policy_versions=np.full(len(logprobs), version, dtype=np.int64),
        finish_reason="length" if sampled.finish_reason == "length" else "stop",
    )
