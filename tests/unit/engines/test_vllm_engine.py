"""The thread around vLLM: whoever waits hears of a failure. vLLM itself is a stub here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from r1reward.engines.library_calls import LibraryCall
from r1reward.errors import InputError
from r1reward.interfaces import Sampling
from r1reward.metrics import Name
from r1reward.recipe.components import EngineSettings
from r1reward.shapes.pairs import make_pairs
from r1reward.types import WeightsHandle
from tests.samples import local_recipe

pytestmark = pytest.mark.slow  # vLLM is imported

WAIT_S = 20
HANDLE = WeightsHandle(5, (), ())


@dataclass
class StubCore:
    """Holds requests until a step finishes them all, or fails."""

    fails: bool = False
    request_ids: list[str] = field(default_factory=list)
    model_executor: Any = field(
        default_factory=lambda: SimpleNamespace(register_failure_callback=lambda _: None)
    )

    def has_unfinished_requests(self) -> bool:
        return bool(self.request_ids)

    def add_request(self, request_id: str, *_: object) -> None:
        self.request_ids.append(request_id)

    def step(self) -> list[Any]:
        from vllm import RequestOutput
        from vllm.outputs import CompletionOutput

        if self.fails:
            raise RuntimeError("the kernel fell over")
        done, self.request_ids = self.request_ids, []
        answer = CompletionOutput(0, "", [], None, [], finish_reason="stop")
        return [RequestOutput(number, None, [1, 2], None, [answer], True) for number in done]

    def reset_encoder_cache(self) -> None:
        pass


class StubLLM:
    """What the engine asks of ``vllm.LLM``."""

    def __init__(self, core: StubCore) -> None:
        self.llm_engine = core

    def collective_rpc(self, *_: object, **__: object) -> None:
        pass

    def reset_prefix_cache(self) -> None:
        pass


@pytest.fixture
def core() -> StubCore:
    return StubCore()


@pytest.fixture
def engine(core: StubCore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from r1reward.engines import vllm_engine

    monkeypatch.setattr(vllm_engine, "LLM", lambda **_: StubLLM(core))
    recipe = local_recipe()
    settings = EngineSettings(recipe.model, recipe.rollout.engine, recipe.placement)
    engine = vllm_engine.VllmEngine(settings)
    yield engine
    engine.stop()


def submitted(engine: Any, *images: bytes) -> Any:
    from r1reward.engines.vllm_engine import EngineRequest

    (future,) = engine.submit([EngineRequest((1, 2), images, 0, Sampling(1.0, 8))])
    return future


# Regression: the caller of ``load_weights``, ``sleep`` or ``wake_up`` waited for ever.
def test_a_step_that_fails_while_the_engine_drains_reaches_everybody_who_waits(
    engine: Any, core: StubCore
) -> None:
    core.fails = True
    rollout = submitted(engine)
    loading = engine.load_weights(HANDLE, [])
    for future in (loading, rollout):
        with pytest.raises(RuntimeError, match="the kernel fell over"):
            future.result(WAIT_S)


# Regression: what was still in flight had nobody who waited for it, and loading failed of that.
def test_a_full_bundle_mends_an_engine_whose_step_failed(engine: Any, core: StubCore) -> None:
    from r1reward.engines.vllm_engine import EngineBrokenError

    core.fails = True
    with pytest.raises(RuntimeError, match="the kernel fell over"):
        submitted(engine).result(WAIT_S)
    with pytest.raises(EngineBrokenError):
        submitted(engine).result(WAIT_S)
    loading: list[Any] = []

    def mend() -> None:
        # In the engine's thread, so that no step comes between.
        core.fails = False
        loading.append(engine.load_weights(HANDLE, []))
        mended.set()

    mended = threading.Event()
    engine.commands.put(mend)
    assert mended.wait(WAIT_S)
    loading[0].result(WAIT_S)
    assert submitted(engine).result(WAIT_S).finish_reason == "stop"
    assert engine.version == 5


def test_a_bundle_tells_how_long_images_took_since_the_one_before(engine: Any) -> None:
    (pair,) = make_pairs("train", 1, seed=0)
    submitted(engine, *pair.images).result(WAIT_S)
    submitted(engine).result(WAIT_S)
    taken = [engine.load_weights(HANDLE, []).result(WAIT_S) for _ in range(2)]
    seconds = [times[Name.TIME_ENGINE_PREPARE_IMAGES_S].value for times in taken]
    assert seconds[0] > 0 and seconds[1] == 0


def test_a_vllm_without_what_is_called_does_not_start(
    core: StubCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from r1reward.engines import vllm_engine

    older = LibraryCall("vllm", "vllm:LLM.none", "a weight update")
    monkeypatch.setattr(vllm_engine, "VLLM", (older,))
    monkeypatch.setattr(vllm_engine, "LLM", lambda **_: StubLLM(core))
    recipe = local_recipe()
    settings = EngineSettings(recipe.model, recipe.rollout.engine, recipe.placement)
    with pytest.raises(InputError, match=r"has no vllm\.LLM\.none, which a weight"):
        vllm_engine.VllmEngine(settings)
