"""``r1reward plan``: does a recipe fit, before a GPU hour is spent on finding out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from r1reward.errors import InputError
from r1reward.models.model_shape import ModelShape, read_model_shape
from r1reward.recipe.components import judge_settings, rollout_settings
from r1reward.recipe.engine_sections import VllmJudge
from r1reward.recipe.recipe import Recipe
from r1reward.sizing.bundles import ROLES, Bundle, Role, plan_bundles, shared_bundles
from r1reward.sizing.engine_memory import GB
from r1reward.sizing.memory_plan import (
    Holder,
    LearnerCase,
    billions,
    engine_holder,
    host_holder,
    learner_holder,
    shared_holder,
)


@dataclass(frozen=True)
class Hardware:
    """What the recipe is to fit on. ``host_gb`` None: host memory is shown, not judged."""

    gpu_gb: float = 80.0
    gpus_per_node: int = 8
    host_gb: float | None = None
    images_per_pair: int | None = None

    def check(self) -> None:
        """Raises ``InputError`` for a size that is none."""
        sizes = {
            "--gpu-gb": self.gpu_gb,
            "--gpus-per-node": self.gpus_per_node,
            "--host-gb": self.host_gb,
        }
        for flag, size in sizes.items():
            if size is not None and size <= 0:
                raise InputError(f"{flag} is {size:g}: give a number above 0")
        if self.images_per_pair is not None and self.images_per_pair < 0:
            raise InputError(f"--images is {self.images_per_pair}: give 0 or more")


@dataclass(frozen=True)
class MemoryPlan:
    """Everything that is shown. ``nodes`` counts the actors of each role on every node."""

    policy: ModelShape
    holders: tuple[tuple[Holder, int], ...]
    nodes: tuple[dict[str, int], ...]
    num_gpus: int
    problems: tuple[str, ...]


def plan_memory(recipe: Recipe, hardware: Hardware) -> MemoryPlan:
    """Pure arithmetic on the recipe and config.json. Raises ``InputError`` for what cannot be read."""
    hardware.check()
    policy = read_model_shape(recipe.model.path)
    cuda = recipe.placement.device == "cuda"
    rollout, judge_of_run = None, None
    if recipe.train.from_rollouts is None:
        rollout = rollout_settings(recipe.model, recipe.rollout, recipe.placement)
        judge_of_run = judge_settings(recipe.judge, recipe.model, recipe.placement)
    bundles = plan_bundles(recipe.placement, rollout, judge_of_run, recipe.learner)
    learner = LearnerCase(
        policy,
        recipe.model,
        recipe.learner,
        recipe.algorithm.needs_reference,
        recipe.placement,
        hardware.images_per_pair,
    )
    gpu_bytes = int(hardware.gpu_gb * GB)
    room = gpu_bytes if cuda else int((hardware.host_gb or hardware.gpu_gb) * GB)
    holders: list[tuple[Holder, int]] = []
    if bundles["rollout"]:
        holder = engine_holder("rollout", policy, recipe.model, recipe.rollout.engine, room, cuda)
        holders.append((holder, num_holders(recipe, bundles["rollout"])))
    if bundles["judge"] and isinstance(recipe.judge, VllmJudge):
        judge = policy if recipe.judge.path == "policy" else read_model_shape(recipe.judge.path)
        holder = engine_holder("judge", judge, recipe.model, recipe.judge.engine, room, cuda)
        holders.append((holder, num_holders(recipe, bundles["judge"])))
    if bundles["learner"]:
        limit = gpu_bytes if cuda else None
        holders.append((learner_holder(learner, limit), len(bundles["learner"])))
    # Actors without GPUs (a judge behind an endpoint) go where there is room.
    nodes: list[dict[str, int]] = [{}]
    too_wide: list[str] = []
    total = sum(num_gpus(bundles[role]) for role in ROLES)
    if recipe.placement.takes_turns:
        total = len(shared_bundles(bundles))
        nodes = pack_shared(bundles, hardware.gpus_per_node)
    elif cuda:
        nodes, too_wide = pack(bundles, hardware.gpus_per_node)
    cache_gb = recipe.rollout.engine.mm_processor_cache_gb
    host_bytes = None if hardware.host_gb is None else int(hardware.host_gb * GB)
    if cuda:
        hosts = [host_holder(learner, cache_gb, node, host_bytes) for node in nodes]
        host = max(hosts, key=lambda holder: holder.peak)
    else:
        host = shared_holder(learner, cache_gb, holders, host_bytes)
    holders.append((host, len(nodes)))
    problems = [holder.problem for holder, _ in holders if holder.problem]
    problems += too_wide + divisible(recipe, policy)
    return MemoryPlan(policy, tuple(holders), tuple(nodes), total, tuple(problems))


def num_holders(recipe: Recipe, bundles: Sequence[Bundle]) -> int:
    """How many GPUs hold a part of an engine; processes where there are none."""
    if recipe.placement.takes_turns:
        return len(bundles)
    return num_gpus(bundles) or len(bundles)


def num_gpus(bundles: Sequence[Bundle]) -> int:
    return int(sum(bundle.get("GPU", 0) for bundle in bundles))


def pack(
    bundles: dict[Role, list[Bundle]], gpus_per_node: int
) -> tuple[list[dict[str, int]], list[str]]:
    """Actors on as few nodes as hold them, widest first, and what fits no node at all."""
    wide: list[str] = []
    free: list[int] = []
    nodes: list[dict[str, int]] = []
    wanted = [(int(b.get("GPU", 0)), role) for role in ROLES for b in bundles[role]]
    for width, role in sorted(wanted, key=lambda item: -item[0]):
        if width > gpus_per_node:
            wide.append(role)
            continue
        place = next((i for i, left in enumerate(free) if left >= width), len(free))
        if place == len(free):
            free.append(gpus_per_node)
            nodes.append({})
        free[place] -= width
        nodes[place][role] = nodes[place].get(role, 0) + 1
    sentences = [
        f"one {role} engine wants more GPUs ({role}.engine.tensor_parallel_size) than a node has "
        f"({gpus_per_node}): lower the first or raise --gpus-per-node"
        for role in dict.fromkeys(wide)
    ]
    return nodes or [{}], sentences


def pack_shared(bundles: dict[Role, list[Bundle]], gpus_per_node: int) -> list[dict[str, int]]:
    """Actors of one number on one GPU, GPU after GPU."""
    counts = [
        {role: int(number < len(bundles[role])) for role in ROLES}
        for number in range(max(map(len, bundles.values())))
    ]
    nodes = [
        counts[start : start + gpus_per_node] for start in range(0, len(counts), gpus_per_node)
    ]
    return [
        {role: found for role in ROLES if (found := sum(gpu[role] for gpu in node))}
        for node in nodes
    ]


def divisible(recipe: Recipe, policy: ModelShape) -> list[str]:
    """Tensor parallelism cuts attention by heads."""
    shards = recipe.rollout.engine.tensor_parallel_size
    heads = policy.text.num_heads
    if heads % shards:
        return [
            f"rollout.engine.tensor_parallel_size ({shards}) does not divide the model's {heads} "
            "attention heads: choose one that does"
        ]
    return []


def show_plan(recipe: Recipe, hardware: Hardware, console: Console) -> bool:
    """Print the plan; True when everything fits."""
    plan = plan_memory(recipe, hardware)
    policy = plan.policy
    sizes = {
        part: sum(w.numel for w in policy.weights if w.part == part)
        for part in ("vision", "merger", "language")
    }
    parts = ", ".join(f"{name} {billions(size)}" for name, size in sizes.items())
    console.print(
        f"[bold]{recipe.name}[/bold]: {recipe.model.path} ({policy.source}), "
        f"{billions(policy.num_parameters)} parameters in {recipe.model.dtype} ({parts}), "
        f"sequences of up to {recipe.model.max_sequence_tokens:,} tokens",
        highlight=False,
    )
    for holder, count in plan.holders:
        console.print(holder_table(holder, count, recipe.placement.device))
    if plan.num_gpus:
        console.print(
            f"\nneeds {plan.num_gpus} GPUs on {len(plan.nodes)} node(s) of {hardware.gpus_per_node}: "
            + "; ".join(describe_node(node) for node in plan.nodes),
            highlight=False,
        )
    console.print("~ estimated; all else is counted (docs/plan.md)", style="dim", highlight=False)
    for problem in plan.problems:
        console.print(f"[red]does not fit:[/red] {problem}", highlight=False)
    if not plan.problems:
        console.print("[green]everything fits[/green]", highlight=False)
    return not plan.problems


def describe_node(node: dict[str, int]) -> str:
    return " + ".join(f"{count} {role}" for role, count in node.items())


def holder_table(holder: Holder, count: int, device: str) -> Table:
    """Parts of one GPU or node, with the peak at the end."""
    kind = "node" if holder.title.startswith("node") else {"cuda": "GPU"}.get(device, "process")
    where = f"each of {count} {kind}s" if count > 1 else f"one {kind}"
    where = where.replace("processs", "processes")
    heading = f"host memory, {where}" if kind == "node" else f"{holder.title}, {where}"
    table = Table(
        title=f"\n{heading}",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        expand=False,
        show_header=False,
    )
    table.add_column("part", width=23)
    table.add_column("size", justify="right", width=11)
    table.add_column("note", style="dim", overflow="fold")
    for line in holder.lines:
        mark = "~" if line.estimate else ""
        table.add_row(f"  {line.name}", f"{mark}{amount(line.num_bytes)}", line.note)
    limit = "" if holder.limit is None else f"of {amount(holder.limit)}"
    style = "red" if holder.limit is not None and holder.peak > holder.limit else "bold"
    table.add_row("  at most at once", amount(holder.peak), limit, style=style)
    return table


def amount(num_bytes: int) -> str:
    return f"{num_bytes / GB:.1f} GB" if num_bytes >= GB / 10 else f"{num_bytes / 1e6:.1f} MB"
