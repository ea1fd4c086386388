"""One evaluation as the page shows it: conditions, audit, charts and samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.calibration import Calibration, Reliability
from r1reward.evaluation.conditions import condition_facts
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation, read_evaluation
from r1reward.evaluation.shown_pairs import read_shown_pairs
from r1reward.evaluation.tables import audit_shares
from r1reward.evaluation.unreadable import UnreadableForm, read_by
from r1reward.evaluation.voting.adaptive import AdaptiveSummary
from r1reward.report.charts import Chart, calibration_chart, voting_chart
from r1reward.report.facts import NOTHING, Facts, decimal, share, whole
from r1reward.report.samples import Samples, collect_samples

MAX_SAMPLE_BYTES = 19_000_000  # beside Plotly's 4.8 MB: the file stays under 25 MB
MAX_ROWS = 2500


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation as the page shows it. ``has_pairs`` is False where pairs.parquet is missing.

    ``sections`` are lists of facts below the scores, by their titles. ``which`` says in words which of a
    pipeline's evaluations it is.
    """

    result: Evaluation
    conditions: Facts
    sections: Mapping[str, Facts]
    calibration: Mapping[str, Reliability]
    samples: Samples
    charts: Mapping[str, Chart]
    has_pairs: bool
    which: str


def evaluation_view(root: Path, which: str = "") -> EvaluationView:
    """Reads a finished evaluation. Raises ``InputError`` for a file that cannot be read."""
    folder = EvalFolder(root)
    result = read_evaluation(folder.result)
    stores = [folder.rows, root.parent / folder.rows.name]
    store = next((path for path in stores if path.is_file()), None)
    pairs = read_shown_pairs(store) if store else []
    calibration = calibration_curves(result.calibration)
    charts = {"voting": voting_chart(result.voting)} if len(result.voting) > 1 else {}
    if calibration:
        charts["calibration"] = calibration_chart(calibration)
    sections = {"Audit: what the score may owe to other things": audit_facts(result)}
    if result.unreadable:
        sections["Answers that could not be read"] = unreadable_facts(result.unreadable)
    if result.adaptive is not None:
        sections["Adaptive voting"] = adaptive_facts(result.adaptive)
    conditions = condition_facts(result.conditions)
    if result.mappings:
        first = result.mappings[0]
        conditions["Categories"] = f"{first.mapping} ({first.source})"
    if (missing := result.missing) is not None:
        conditions["Rows without an answer"] = (
            f"{missing.num_rows} of {missing.num_rows_asked}: refused {missing.num_refused}, "
            f"failed {missing.num_failed} samples"
        )
    return EvaluationView(
        result=result,
        conditions=conditions,
        sections=sections,
        calibration=calibration,
        samples=collect_samples(pairs, read_answers(folder.answers), MAX_SAMPLE_BYTES, MAX_ROWS),
        charts=charts,
        has_pairs=store is not None,
        which=which,
    )


def audit_facts(result: Evaluation) -> Facts:
    """Every number of the audit, and means over the answers that were judged and rewarded."""
    audit, lengths, answers = result.audit, result.audit.by_length, result.parts
    counts = {
        "rows": audit.num_rows,
        "rows asked in both orders": audit.num_rows_both_orders,
        "answers": audit.num_answers,
        "unreadable answers": audit.num_unparsed,
        "answers cut at the token limit": audit.num_truncated,
        "rows whose preferred response is longer": lengths.num_preferred_longer,
        "rows whose preferred response is shorter": lengths.num_preferred_shorter,
        "rows with responses of equal length": lengths.num_equal,
    }
    return {
        **{name: whole(count) for name, count in counts.items()},
        **{name: share(value) for name, value in audit_shares(result).items()},
        "mean reward": decimal(answers.reward),
        "tokens an answer": decimal(answers.num_tokens),
    }


def unreadable_facts(forms: Sequence[UnreadableForm]) -> Facts:
    """The most frequent forms, how often each was found, and what reads it."""
    return {form.form: f"{whole(form.count)} times, {read_by(form)}" for form in forms}


def adaptive_facts(summary: AdaptiveSummary) -> Facts:
    """What adaptive voting saved, or would have saved."""
    changed = summary.num_changed
    return {
        "rows": whole(summary.num_rows),
        "samples a row at most (K)": whole(summary.num_samples),
        "error allowed to a verdict": decimal(summary.error),
        "rule replayed over complete votes": "yes" if summary.replayed else "no",
        "samples used": share(summary.used_share),
        "samples expected to be used": share(summary.predicted_share),
        "share of a majority in its row": share(summary.majority_share),
        "verdicts that differ from all K samples'": NOTHING if changed is None else whole(changed),
    }


def calibration_curves(calibration: Calibration | None) -> dict[str, Reliability]:
    """Of single answers by their confidence, and of majorities by their share of the votes."""
    if calibration is None:
        return {}
    curves = [("one answer, by its confidence", calibration.confidence)]
    curves.append(("the vote, by its majority", calibration.vote_share))
    return {name: curve for name, curve in curves if curve is not None}
