"""Learning rate: linear warm-up, then cosine down to a floor."""

import math

from r1reward.recipe.learner_sections import LearnerSection


def learning_rate(update: int, num_updates: int, settings: LearnerSection) -> float:
    """Returns the rate of update number ``update`` (from 0) of ``num_updates``.

    The first update already moves: its rate is lr / warm-up updates, not 0. The last one is at
    ``lr * min_lr_ratio``, unless warm-up leaves it no room.
    """
    num_warmup = math.ceil(settings.warmup_share * num_updates)
    if update < num_warmup:
        return settings.lr * (update + 1) / num_warmup
    span = max(1, num_updates - 1 - num_warmup)
    progress = min(1.0, (update - num_warmup) / span)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.lr * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * cosine)
