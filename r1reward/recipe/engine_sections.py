"""The sections of a recipe for what samples and judges, and for who runs where."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue

from r1reward.recipe.choices import JudgeReplyMode, JudgeTemplateName
from r1reward.recipe.sections import PositiveInt, Section, Share


class EngineSection(Section):
    """One vLLM engine. What is None is left to vLLM."""

    tensor_parallel_size: PositiveInt = 1
    """GPUs (or CPU workers) that one engine spreads each layer over."""

    gpu_memory_utilization: Share = 0.9
    """Share of a GPU's memory that the engine takes; not used on a CPU."""

    kv_cache_memory_mb: PositiveInt | None = None
    """Memory of the key-value cache in MB; None: what gpu_memory_utilization leaves."""

    max_num_seqs: PositiveInt = 256
    """Most sequences that are computed at the same time."""

    max_num_batched_tokens: PositiveInt | None = None
    """Most tokens of one engine step; None: vLLM's default; on a CPU it must be given."""

    enforce_eager: bool = False
    """Run without compiled graphs: slower, with a faster start and less memory."""

    block_size: PositiveInt | None = None
    """Tokens of one block of the key-value cache; None: vLLM's default."""

    mm_processor_cache_gb: float = Field(default=4, ge=0)
    """Host memory for processed images in GB; 0: none."""


class DynamicSamplingSection(Section):
    """Prompts whose samples all came out alike are replaced by others (DAPO, arXiv 2503.14476)."""

    max_rounds: PositiveInt
    """Sampling rounds beyond the first; after them the batch is trained on as it is."""


class RolloutSection(Section):
    """What a step samples, and the engines that sample it."""

    num_actors: PositiveInt = 1
    """Number of engines; a restarted run may have another number."""

    prompts_per_step: PositiveInt = 256
    """Prompts of a step; a pair that is shown in both orders counts twice."""

    samples_per_prompt: PositiveInt = 1
    """Answers drawn for each prompt; group baselines need more than 1."""

    both_orders: bool = False
    """Show every pair of a step in both orders; prompts_per_step still counts prompts."""

    dynamic_sampling: DynamicSamplingSection | None = None
    """Replace prompts whose samples all came out alike; None: keep them."""

    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature; training needs 1.0."""

    max_retries: int = Field(default=3, ge=0)
    """How often an engine that died is restarted, and its unfinished work tried again."""

    engine: EngineSection = EngineSection()

    @property
    def rollouts_per_step(self) -> int:
        return self.prompts_per_step * self.samples_per_prompt

    @property
    def pairs_per_step(self) -> int:
        return self.prompts_per_step // 2 if self.both_orders else self.prompts_per_step

    def check(self) -> None:
        if self.both_orders and self.prompts_per_step % 2:
            raise ValueError(
                f"rollout.both_orders shows every pair twice, but rollout.prompts_per_step is "
                f"{self.prompts_per_step}: make it even"
            )
        if self.dynamic_sampling is not None and self.samples_per_prompt == 1:
            raise ValueError(
                "rollout.dynamic_sampling replaces prompts whose samples all came out alike, and a "
                "single one always does: raise rollout.samples_per_prompt above 1"
            )


class RuleJudge(Section):
    """Reads the conclusion with a regular expression; for the miniature and for tests."""

    type: Literal["rule"]
    """A regular expression reads the conclusion of the analysis."""


class ModelJudge(Section):
    """How a model is asked for its verdict, and how its reply is read."""

    template: JudgeTemplateName = "standard"
    """Wording of the judge's prompt; short is for models of a few million parameters."""

    num_lines: PositiveInt = 3
    """How many of the analysis's last lines the judge sees."""

    temperature: float = Field(default=0.1, ge=0)
    """Sampling temperature of the judge; 0: greedy."""

    max_tries: PositiveInt = 3
    """Tries at a call until the judge gives a readable word; then it abstains."""

    max_tokens: PositiveInt = 8
    """Longest reply of the judge in tokens; a model that thinks before it answers needs hundreds,
    and what it thinks is skipped."""

    reply: JudgeReplyMode = "strict"
    """What counts as a verdict: strict takes a reply that is nothing but 1 or 0 (or yes or no,
    same or different, ...) and asks again after any other; authors takes any reply with a digit 0
    for a mismatch and any other with a 1 for a match, as the authors' code does."""


class VllmJudge(ModelJudge):
    """A model served by vLLM in its own actor. ``path: policy`` is the frozen starting policy."""

    type: Literal["vllm"]
    """A model in a vLLM engine of its own."""

    path: str = "policy"
    """The judge's model: a Hugging Face folder or name, 'shapes', or 'policy' for the model
    that the recipe starts from, frozen."""

    engine: EngineSection = EngineSection()


SamplingField = Literal["temperature", "top_p", "max_tokens", "seed", "logprobs"]


class EndpointSection(Section):
    """Any OpenAI-compatible endpoint. The key is read from an environment variable, never stored."""

    url: str
    """Base address of the server, for example http://127.0.0.1:8000/v1."""

    model: str
    """The model's name at the server."""

    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is never stored."""

    timeout_s: float = Field(default=60, gt=0)
    """Seconds for a whole request, from connecting to the last byte; then it counts as failed."""

    max_concurrent: PositiveInt = 32
    """Most requests that wait for the server at the same time."""

    extra_body: dict[str, JsonValue] = Field(default={"top_k": 0, "repetition_penalty": 1.0})
    """Fields of a request outside OpenAI's API, as vLLM takes them; {} for servers that refuse them."""

    leave_out: tuple[SamplingField, ...] = ()
    """Fields that are not sent, for servers that refuse them; the server's own values hold then."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the most tokens of an answer; some take max_completion_tokens only."""

    def check(self) -> None:
        """With nothing secret in it: a recipe is written into the run folder and sent to trackers."""
        address = urlsplit(self.url)
        # An impossible port is a ValueError of its own.
        if address.scheme not in ("http", "https") or not address.netloc or address.port == 0:
            raise ValueError(
                f"the endpoint's url is {self.url!r}: it must begin with http:// or https:// and "
                "name a host"
            )
        if "@" in address.netloc or address.query:
            raise ValueError(
                "the endpoint's url carries a user name, password or query: give only the address, "
                "and put the key into the environment variable that api_key_env names"
            )


class OpenAIJudge(ModelJudge, EndpointSection):
    """A judge behind an endpoint."""

    type: Literal["openai"]
    """A model behind any OpenAI-compatible endpoint."""


class PolicyEndpoint(EndpointSection):
    """The model that is evaluated, behind an endpoint."""

    timeout_s: float = Field(default=600, gt=0)
    """Seconds for a whole request, from connecting to the last byte; then it counts as failed."""

    logprobs: bool = True
    """Ask for the answer token's probability; false for servers without it."""


JudgeSection = Annotated[RuleJudge | VllmJudge | OpenAIJudge, Field(discriminator="type")]


RoleName = Literal["rollout", "judge", "learner"]


class PlacementSection(Section):
    """Who runs where. ``split``: every actor owns its GPUs. On CPUs the actors share the cores.

    ``colocate``: engine, judge and learner rank of the same number share a GPU. Engines sleep while the
    learner works, and its states are in host memory while they sample.

    ``in_process``: no actors. Sampler and learner take turns in the process of the loop, without Ray
    and vLLM: for studies of many small runs and for a debugger.
    """

    device: Literal["cpu", "cuda"] = "cuda"
    """What engines and learner compute on."""

    mode: Literal["split", "colocate", "in_process"] = "split"
    """Who has which GPU: split, colocate or in_process."""

    threads: PositiveInt = 2
    """CPU threads of each engine and each learner rank."""

    num_judge_actors: PositiveInt = 1
    """Number of judge actors; calls are shared among them."""

    object_store_mb: PositiveInt | None = None
    """Size of a node's object store in MB, where the run starts Ray itself; None: Ray's default."""

    wait_s: PositiveInt = 600
    """Seconds to wait for the cluster's resources, and for an engine whose node died."""

    strategy: Literal["pack", "spread"] = "pack"
    """Put the actors on few nodes (pack), or on as many as there are (spread)."""

    resources: dict[RoleName, dict[str, Annotated[float, Field(gt=0)]]] = Field(default={})
    """What an actor of a role takes of Ray's custom resources, which nodes offer with `ray
    start --resources`: {judge: {judge_node: 1}} keeps judges to such nodes."""

    def check(self) -> None:
        for role, wanted in self.resources.items():
            for name in wanted:
                if name.lower() in ("cpu", "gpu", "memory", "object_store_memory"):
                    raise ValueError(
                        f"placement.resources.{role} names {name!r}, which every node of Ray has by "
                        "itself: name a resource that only the wanted nodes are started with"
                    )

    @property
    def takes_turns(self) -> bool:
        """Whether engines and learner have the same GPUs, one side at a time."""
        return self.device == "cuda" and self.mode == "colocate"
