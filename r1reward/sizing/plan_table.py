"""``r1reward plan``: does a recipe fit, before a GPU hour is spent on finding out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from r1reward.models.model_shape import ModelShape, read_model_shape
from r1reward.recipe.engine_sections import EngineSection, RoleName, VllmJudge
from r1reward.recipe.recipe import Recipe
from r1reward.sizing.bundles import ROLES, Bundle, num_gpus, shared_bundles, training_bundles
from r1reward.sizing.engine_memory import GB
from r1reward.sizing.memory_plan import (
    Holder,
    LearnerCase,
    billions,
    engine_holder,
    host_holder,
    learner_holder,
    sampling_holder,
    shared_holder,
)


@dataclass(frozen=True)
class Hardware:
    """What the recipe is to fit on.

    ``host_gb`` is the memory of a node; with None it is shown and not judged. ``images_per_pair`` is
    how many images a pair really has; with None as many as ``model.max_images`` allows.
    """

    gpu_gb: float = 80.0
    gpus_per_node: int = 8
    host_gb: float | None = None
    images_per_pair: int | None = None


@dataclass(frozen=True)
class MemoryPlan:
    """Everything that is shown.

    ``holders`` are kinds of GPUs and nodes and how many there are of each; ``nodes`` counts the actors
    of each role on every node; ``problems`` are sentences that say what does not fit.
    """

    policy: ModelShape
    holders: tuple[tuple[Holder, int], ...]
    nodes: tuple[Counter[str], ...]
    num_gpus: int
    problems: tuple[str, ...]


def plan_memory(recipe: Recipe, hardware: Hardware) -> MemoryPlan:
    """Computes the plan from the recipe and the model's config.json alone.

    Raises ``InputError`` for a model whose size is not known here.
    """
    policy = read_model_shape(recipe.model.path)
    cuda = recipe.placement.device == "cuda"
    bundles = training_bundles(recipe)
    reference = recipe.algorithm.needs_reference
    learner = LearnerCase(policy, recipe.model, recipe.learner, reference, recipe.placement)
    learner = replace(
        learner, images_per_pair=hardware.images_per_pair, sleeping=sleeping_engines(recipe)
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
    if recipe.placement.takes_turns:
        shared = sampling_holder([holder for holder, _ in holders], gpu_bytes)
        holders.append((shared, len(shared_bundles(bundles))))
    if bundles["learner"]:
        limit = gpu_bytes if cuda else None
        holders.append((learner_holder(learner, limit), len(bundles["learner"])))
    # Actors without GPUs (a judge behind an endpoint) go where there is room.
    nodes = [Counter[str]()]
    problems: list[str] = []
    total = sum(num_gpus(bundles[role]) for role in ROLES)
    if recipe.placement.takes_turns:
        total = len(shared_bundles(bundles))
        nodes = nodes_of_shared_gpus(bundles, hardware.gpus_per_node)
    elif cuda:
        nodes, problems = fill_nodes(bundles, hardware.gpus_per_node)
    cache_gb = recipe.rollout.engine.mm_processor_cache_gb
    host_bytes = None if hardware.host_gb is None else int(hardware.host_gb * GB)
    if cuda:
        hosts = [host_holder(learner, cache_gb, node, host_bytes) for node in nodes]
        host = max(hosts, key=lambda holder: holder.peak)
    else:
        host = shared_holder(learner, cache_gb, holders, host_bytes)
    holders.append((host, len(nodes)))
    problems = [holder.problem for holder, _ in holders if holder.problem] + problems
    problems += head_problems(recipe.rollout.engine.tensor_parallel_size, policy.text.num_heads)
    return MemoryPlan(policy, tuple(holders), tuple(nodes), total, tuple(problems))


def sleeping_engines(recipe: Recipe) -> tuple[EngineSection, ...]:
    """The engines that sleep on a GPU of the learner while it works."""
    if not recipe.placement.takes_turns:
        return ()
    judge = (recipe.judge.engine,) if isinstance(recipe.judge, VllmJudge) else ()
    return recipe.rollout.engine, *judge


def num_holders(recipe: Recipe, bundles: Sequence[Bundle]) -> int:
    """Returns how many GPUs hold a part of an engine, or how many processes where there are none."""
    if recipe.placement.takes_turns:
        return len(bundles)
    return num_gpus(bundles) or len(bundles)


def fill_nodes(
    bundles: Mapping[RoleName, Sequence[Bundle]], gpus_per_node: int
) -> tuple[list[Counter[str]], list[str]]:
    """Puts actors on as few nodes as hold them, widest first.

    Returns the actors of each role on every node, and a sentence for each role whose actors fit no
    node.
    """
    nodes: list[Counter[str]] = []
    free_gpus: list[int] = []
    too_wide: list[str] = []
    actors = [(int(b.get("GPU", 0)), role) for role in ROLES for b in bundles[role]]
    for width, role in sorted(actors, key=lambda actor: -actor[0]):
        if width > gpus_per_node:
            too_wide.append(role)
            continue
        node = next((i for i, free in enumerate(free_gpus) if free >= width), len(nodes))
        if node == len(nodes):
            nodes.append(Counter())
            free_gpus.append(gpus_per_node)
        free_gpus[node] -= width
        nodes[node][role] += 1
    sentences = [
        f"one {role} engine wants more GPUs ({role}.engine.tensor_parallel_size) than a node has "
        f"({gpus_per_node}): lower the first or raise --gpus-per-node"
        for role in dict.fromkeys(too_wide)
    ]
    return nodes or [Counter()], sentences


def nodes_of_shared_gpus(
    bundles: Mapping[RoleName, Sequence[Bundle]], gpus_per_node: int
) -> list[Counter[str]]:
    """Returns the actors of each role on every node, where actor i of every role is on GPU i."""
    num_shared = max(map(len, bundles.values()))
    nodes = [Counter[str]() for _ in range(0, num_shared, gpus_per_node)]
    for role in ROLES:
        for gpu in range(len(bundles[role])):
            nodes[gpu // gpus_per_node][role] += 1
    return nodes


def head_problems(shards: int, num_heads: int) -> list[str]:
    """Tensor parallelism cuts attention by heads, so every shard must get as many."""
    if num_heads % shards == 0:
        return []
    return [
        f"rollout.engine.tensor_parallel_size ({shards}) does not divide the model's {num_heads} "
        "attention heads: choose one that does"
    ]


def show_plan(recipe: Recipe, hardware: Hardware, console: Console) -> bool:
    """Prints the plan. Returns whether everything fits."""
    plan = plan_memory(recipe, hardware)
    policy = plan.policy
    sizes = dict.fromkeys(("vision", "merger", "language"), 0)
    for weight in policy.weights:
        sizes[weight.part] += weight.numel
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
            + "; ".join(
                " + ".join(f"{count} {role}" for role, count in node.items()) for node in plan.nodes
            ),
            highlight=False,
        )
    console.print("~ estimated; all else is counted (docs/plan.md)", style="dim", highlight=False)
    for problem in plan.problems:
        console.print(f"[red]does not fit:[/red] {problem}", highlight=False)
    if not plan.problems:
        console.print("[green]everything fits[/green]", highlight=False)
    return not plan.problems


def holder_table(holder: Holder, count: int, device: str) -> Table:
    """Builds the table of one GPU's or node's memory: its parts, and the peak at the end."""
    kind = "node" if holder.title.startswith("node") else {"cuda": "GPU"}.get(device, "process")
    kinds = "processes" if kind == "process" else f"{kind}s"
    which = f"each of {count} {kinds}" if count > 1 else f"one {kind}"
    heading = f"{'host memory' if kind == 'node' else holder.title}, {which}"
    table = Table(box=None, pad_edge=False, show_header=False)
    table.title, table.title_justify, table.title_style = f"\n{heading}", "left", "bold"
    table.add_column("part", width=23)
    table.add_column("size", justify="right", width=11)
    table.add_column("note", style="dim", overflow="fold")
    for line in holder.lines:
        about = "~" if line.estimate else ""
        table.add_row(f"  {line.name}", f"{about}{amount(line.num_bytes)}", line.note)
    limit = "" if holder.limit is None else f"of {amount(holder.limit)}"
    style = "red" if holder.limit is not None and holder.peak > holder.limit else "bold"
    table.add_row("  at most at once", amount(holder.peak), limit, style=style)
    return table


def amount(num_bytes: int) -> str:
    return f"{num_bytes / GB:.1f} GB" if num_bytes >= GB / 10 else f"{num_bytes / 1e6:.1f} MB"
