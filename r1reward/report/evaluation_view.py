"""One evaluation as the page shows it: conditions, audit, charts and samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r1reward.evaluation.answers import read_answers
from r1reward.evaluation.audit import Audit
from r1reward.evaluation.calibration import Calibration, Reliability
from r1reward.evaluation.eval_folder import EvalFolder
from r1reward.evaluation.evaluation import Evaluation, JudgedParts, read_evaluation
from r1reward.evaluation.shown_pairs import read_shown_pairs
from r1reward.evaluation.voting.adaptive import AdaptiveSummary
from r1reward.recipe.choices import OrderMode
from r1reward.report.charts import Chart, calibration_chart, voting_chart
from r1reward.report.facts import NOTHING, Facts, decimal, share, whole
from r1reward.report.samples import Samples, collect_samples

MAX_SAMPLE_BYTES = 19_000_000  # beside Plotly's 4.8 MB: the file stays under 25 MB
MAX_ROWS = 2500
ORDERS: Mapping[OrderMode, str] = {
    "both": "every pair in both orders",
    "single": "one order a row",
    "stored": "as stored",
    "authors": "the authors' own",
    "random": "drawn at random",
}


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation as the page shows it. ``has_pairs`` is False where pairs.parquet is missing.

    ``sections`` are lists of facts below the scores, by their titles.
    """

    result: Evaluation
    conditions: Facts
    sections: Mapping[str, Facts]
    calibration: Mapping[str, Reliability]
    samples: Samples
    charts: Mapping[str, Chart]
    has_pairs: bool


def evaluation_view(root: Path) -> EvaluationView:
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
    sections = {"Answers": answer_facts(result.parts)}
    sections["Audit: what the score may owe to other things"] = audit_facts(result.audit)
    if result.adaptive is not None:
        sections["Adaptive voting"] = adaptive_facts(result.adaptive)
    return EvaluationView(
        result=result,
        conditions=condition_facts(result),
        sections=sections,
        calibration=calibration,
        samples=collect_samples(pairs, read_answers(folder.answers), MAX_SAMPLE_BYTES, MAX_ROWS),
        charts=charts,
        has_pairs=store is not None,
    )


def condition_facts(result: Evaluation) -> Facts:
    """How the answers were asked for; without these no number can be compared."""
    asked = result.conditions
    dropped = [f"{count} {reason.replace('_', ' ')}" for reason, count in asked.num_dropped.items()]
    facts = {
        "Model": asked.model,
        "Benchmark": asked.benchmark,
        "Data": asked.data,
        "Rows": whole(asked.num_rows),
        "Dropped": ", ".join(dropped) or "none",
        "Order of responses": ORDERS[asked.orders],
        "Samples a row (K)": str(asked.num_samples),
        "Temperature": known(asked.temperature),
        "Top-p": known(asked.top_p),
        "Seed": str(asked.seed),
        "Prompt template": known(asked.template),
    }
    if result.mappings:
        first = result.mappings[0]
        facts["Categories"] = f"{first.mapping} ({first.source})"
    if result.missing is not None:
        missing = result.missing
        facts["Rows without an answer"] = (
            f"{missing.num_rows} of {missing.num_rows_asked}: refused {missing.num_refused}, "
            f"failed {missing.num_failed} samples"
        )
    if asked.adaptive is not None:
        facts["Adaptive voting"] = f"allowed error {asked.adaptive:g}"
    if asked.image_off:
        facts["Images"] = "left out on purpose"
    return facts


def known(value: float | str | None) -> str:
    return "not known" if value is None else str(value)


def answer_facts(parts: JudgedParts) -> Facts:
    """Means over the answers that were judged and rewarded."""
    return {
        "answer follows the analysis, of those judged": share(parts.consistency),
        "mean reward": decimal(parts.reward),
        "well-formed answers": share(parts.well_formed),
        "tokens an answer": decimal(parts.num_tokens),
    }


def audit_facts(audit: Audit) -> Facts:
    """Every number of the audit."""
    lengths = audit.by_length
    longer, shorter = lengths.accuracy_preferred_longer, lengths.accuracy_preferred_shorter
    return {
        "rows": whole(audit.num_rows),
        "rows asked in both orders": whole(audit.num_rows_both_orders),
        "answers": whole(audit.num_answers),
        "unreadable answers": whole(audit.num_unparsed),
        "answers cut at the token limit": whole(audit.num_truncated),
        "readable answers that name slot 1": share(audit.slot_1_rate),
        "answers that flip when the responses are swapped": share(audit.flip_rate),
        "right in both orders (chance 25 %)": share(audit.both_right_share),
        "unreadable, of all answers": share(audit.unparsed_share),
        "cut at the limit, of all answers": share(audit.truncated_share),
        "rows whose preferred response is longer": whole(lengths.num_preferred_longer),
        "rows whose preferred response is shorter": whole(lengths.num_preferred_shorter),
        "rows with responses of equal length": whole(lengths.num_equal),
        "accuracy where the preferred response is longer": share(longer),
        "accuracy where the preferred response is shorter": share(shorter),
        "picking the longer response would score": share(lengths.pick_longer),
        "picking the shorter response would score": share(lengths.pick_shorter),
    }


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
