"""``r1reward rollout``: the rollouts of a recipe's steps, judged and saved, without a learner."""

from __future__ import annotations

from r1reward.cli.verb import RecipeArguments, Verb


def run(arguments: RecipeArguments) -> None:
    import asyncio

    from rich.console import Console

    from r1reward.runs.mirroring import kept_copied

    recipe = arguments.load()
    with kept_copied(recipe):
        from r1reward.pipeline.sample import sample_rollouts

        asyncio.run(sample_rollouts(recipe, Console()))


VERB = Verb("rollout", "sample and judge rollouts without a learner", RecipeArguments, run)
