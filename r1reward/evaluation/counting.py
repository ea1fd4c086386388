"""From answers to an evaluation: every number of it is a function of the answers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.audit import Audit, audit, mean
from r1reward.evaluation.benchmarks.official import Protocol, score_by_protocol
from r1reward.evaluation.calibration import calibration
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.evaluation import (
    CategoryScore,
    Evaluation,
    JudgedParts,
    MappingScores,
)
from r1reward.evaluation.intervals import (
    Interval,
    all_right,
    difference_interval,
    percent,
    share_interval,
)
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.unreadable import UnreadableForm, describe_forms, unreadable_forms
from r1reward.evaluation.voting.adaptive import adaptive_summary, always_asked
from r1reward.evaluation.voting.curves import (
    default_vote_counts,
    majority_score,
    vote_odds,
    voting_curve,
)
from r1reward.evaluation.voting.votes import RowVotes, count_votes, pool_orders
from r1reward.evaluation.voting.weighted import weighted_votes
from r1reward.recipe.sections import PromptSection

MAX_UNREADABLE_SHARE = (
    0.2  # above it a score says more about the form of answers than about the model
)
MAX_UNUSABLE_SHOWN = 3
ROUNDING = 1e-9  # a vote that is sure to be right is a sum of odds, so not always 1 exactly


@dataclass(frozen=True)
class Scored:
    """Rows with what one sample and the vote score on them."""

    rows: Sequence[RowVotes]
    accuracies: Sequence[float]
    scores: Sequence[float]

    def only(self, chosen: Sequence[int]) -> Scored:
        """Returns the chosen rows alone."""
        return Scored(
            [self.rows[i] for i in chosen],
            [self.accuracies[i] for i in chosen],
            [self.scores[i] for i in chosen],
        )

    @property
    def groups(self) -> list[str]:
        """The group of every row: the clusters of an interval."""
        return [row.group for row in self.rows]

    def interval(self, values: Sequence[float]) -> Interval:
        """Returns the mean of a share of every row, with its interval over groups of rows."""
        return share_interval(values, self.groups)

    def group_interval(self) -> Interval:
        """Returns Acc+: the share of groups whose rows are all right by vote; a tie is not right."""
        right = [score >= 1 - ROUNDING for score in self.scores]
        return share_interval(all_right(right, self.groups))


def count_answers(
    benchmark: Benchmark,
    answers: Sequence[Answer],
    conditions: Conditions,
    *,
    prompt: PromptSection | None = None,
    protocol: Protocol | None = None,
    image_off: Sequence[Answer] = (),
    scheduled: bool = True,
) -> Evaluation:
    """Returns the evaluation of a benchmark all of whose rows have been asked.

    ``prompt`` is how the answers were asked for and read; None: the defaults. ``protocol`` is that of
    the benchmark or of a suite, for a score by its rules; None: there is no such score.
    ``image_off`` are answers to the same rows with grey images; the drop is paired by row.
    Answers made elsewhere are not ``scheduled``: what adaptive voting would save depends on a sequence
    that they do not have.
    """
    rows = count_votes(benchmark.items, answers)
    assert len(rows) == len(benchmark.items), "every row was asked"
    # Where rows stop early, only the samples asked for in any case say how good one sample is.
    fair = fair_answers(benchmark, answers, conditions)
    fair_rows = count_votes(benchmark.items, fair)
    # Votes are drawn from the pool of each order, but a coin per sample knows no balance of orders.
    pooled = conditions.orders == "random"
    drawn = [pool_orders(row) for row in fair_rows] if pooled else fair_rows
    num_votes = min(conditions.num_samples, largest_vote(drawn))
    if conditions.adaptive is None:
        scores = [vote_odds(row, num_votes).score for row in drawn]
    else:
        scores = [majority_score(row) for row in rows]
    scored = Scored(rows, [row.accuracy for row in fair_rows], scores)
    weights = weighted_votes(benchmark.items, fair, pooled=pooled)
    vote_counts = default_vote_counts(num_votes)
    audited, forms = audit(fair_rows, fair), unreadable_forms(fair, prompt or PromptSection())
    said = [*warnings(benchmark, answers, conditions), *unreadable_warnings(audited, forms)]
    return Evaluation(
        conditions=conditions,
        accuracy=scored.interval(scored.accuracies),
        voted=scored.interval(scores),
        group_accuracy=scored.group_interval() if benchmark.scores_groups else None,
        num_groups=len({row.group for row in rows}) if benchmark.scores_groups else None,
        mappings=tuple(mapping_scores(benchmark, name, scored) for name in benchmark.mappings),
        audit=audited,
        parts=judged_parts(fair),
        voting=tuple(voting_curve(drawn, vote_counts, weights=weights)),
        adaptive=adaptive_summary(benchmark.items, answers, conditions)
        if scheduled and conditions.num_samples >= 3  # fewer leave nothing to save
        else None,
        calibration=calibration(fair, benchmark.items),
        official=score_by_protocol(protocol, benchmark, answers, conditions) if protocol else None,
        image_off_drop=image_off_drop(benchmark, scored, image_off, conditions),
        unreadable=forms,
        warnings=tuple(said),
        rows=tuple(rows),
        row_accuracies=tuple(scored.accuracies),
        row_scores=tuple(scores),
    )


def fair_answers(
    benchmark: Benchmark, answers: Sequence[Answer], conditions: Conditions
) -> Sequence[Answer]:
    """Returns the answers that say how good one sample is: with adaptive voting those that are asked
    for in any case.
    """
    if conditions.adaptive is None:
        return answers
    return always_asked(benchmark.items, answers, conditions)


def largest_vote(rows: Sequence[RowVotes]) -> int:
    """Returns the largest K that every pool can fill, half from each order where there are two."""
    return min(
        2 * min(row.stored.num_samples, row.swapped.num_samples)
        if row.has_both_orders
        else row.num_samples
        for row in rows
    )


def mapping_scores(benchmark: Benchmark, mapping: str, scored: Scored) -> MappingScores:
    """Returns the scores of every category under one mapping."""
    names = [item.categories[mapping] for item in benchmark.items]
    categories = []
    for category in sorted(set(names)):
        part = scored.only([index for index, name in enumerate(names) if name == category])
        categories.append(
            CategoryScore(
                category=category,
                num_rows=len(part.rows),
                accuracy=part.interval(part.accuracies),
                voted=part.interval(part.scores),
                group_accuracy=part.group_interval() if benchmark.scores_groups else None,
            )
        )
    return MappingScores(
        mapping=mapping,
        source=benchmark.mappings[mapping],
        categories=tuple(categories),
        macro=sum(item.accuracy.value for item in categories) / len(categories),
        macro_voted=sum(item.voted.value for item in categories) / len(categories),
    )


def judged_parts(answers: Sequence[Answer]) -> JudgedParts:
    """Returns the means over the answers that were judged and rewarded."""
    words = [answer.judge_word for answer in answers if answer.consistency is not None]
    lengths = [float(answer.num_tokens) for answer in answers if answer.num_tokens is not None]
    rewards = [answer.reward for answer in answers if answer.reward is not None]
    return JudgedParts(
        consistency=words.count("match") / len(words) if words else None,
        reward=mean(rewards),
        well_formed=sum(answer.well_formed for answer in answers) / len(answers),
        num_tokens=mean(lengths),
    )


def image_off_drop(
    benchmark: Benchmark, scored: Scored, answers: Sequence[Answer], conditions: Conditions
) -> Interval | None:
    """Returns by how much accuracy falls when the images are switched off, paired by row; None without
    such answers.
    """
    if not answers:
        return None
    blind = count_votes(benchmark.items, fair_answers(benchmark, answers, conditions))
    drops = [seen - off.accuracy for seen, off in zip(scored.accuracies, blind, strict=True)]
    return difference_interval(drops, scored.groups)


def warnings(
    benchmark: Benchmark, answers: Sequence[Answer], conditions: Conditions
) -> Iterator[str]:
    """Yields what a reader must know before quoting a number."""
    always_first = all(item.preferred_first == "stored" for item in benchmark.items)
    if conditions.orders == "authors" or (conditions.orders == "stored" and always_first):
        yield (
            "The preferred response is always shown first: a model that always answers 1 scores "
            "100 % here. Use both orders for a number that means something."
        )
    if conditions.orders == "authors":
        yield (
            "The authors' script takes the first answer block, and without one the last 1 or 2 of the "
            "text: for traces with sloppy tags the number here is a lower bound of theirs."
        )
    too_long = {answer.item for answer in answers if answer.status == "too_long"}
    if too_long:
        yield (
            f"{len(too_long)} of {len(benchmark.items)} rows were too long for the model and count "
            "as unreadable: raise model.max_prompt_tokens or lower model.max_image_tokens."
        )
    for reason, count in conditions.num_dropped.items():
        yield f"{count} rows of the benchmark were left out: {reason}."
    yield from benchmark.unusable[:MAX_UNUSABLE_SHOWN]


def unreadable_warnings(audit: Audit, forms: Sequence[UnreadableForm]) -> Iterator[str]:
    """Yields what must be known when many answers could not be read."""
    if audit.unparsed_share > MAX_UNREADABLE_SHARE:
        what = f": {describe_forms(forms)}" if forms else ""
        yield (
            f"{audit.num_unparsed} of {audit.num_answers} answers "
            f"({percent(audit.unparsed_share)}) could not be read and count as wrong{what}."
        )
