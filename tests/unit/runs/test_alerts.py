"""Each alert at its threshold, its beginning and its end, and the recipe section."""

import logging
from typing import get_args

import pytest

from r1reward.errors import RecipeError
from r1reward.recipe.files import dump_recipe, load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import AlertName, AlertsSection
from r1reward.runs.alerts import ALERTS, AlertError, AlertWatch
from r1reward.types import StepReport
from tests.fakes import make_recipe

HEALTHY = {
    "advantage/num_wrong": 80.0,
    "advantage/filtered_wrong_share": 0.0,
    "rollout/slot_1_share": 0.5,
    "rollout/truncated_share": 0.0,
    "rollout/unparsed_share": 0.0,
    "rollout/policy_lag": 0.0,
    "policy/logprob_gap_mean": 0.004,
    "judge/num_asked": 100.0,
    "judge/num_abstained": 0.0,
}


def names_on(watch: AlertWatch, step: int, **changes: float) -> list[str]:
    metrics = {**HEALTHY, **{name.replace("__", "/"): value for name, value in changes.items()}}
    report = watch.step(StepReport(step, metrics))
    assert {k: v for k, v in report.metrics.items() if not k.startswith("alert/")} == metrics
    return [
        name.removeprefix("alert/")
        for name, value in report.metrics.items()
        if name.startswith("alert/") and value
    ]


def test_every_alert_has_a_rule_and_a_line_of_advice() -> None:
    assert tuple(alert.name for alert in ALERTS) == get_args(AlertName)
    assert all(alert.advice and "\n" not in alert.advice for alert in ALERTS)


def test_a_healthy_run_is_silent_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    watch = AlertWatch(AlertsSection())
    for step in range(1, 9):
        report = watch.step(StepReport(step, HEALTHY))
        flags = {k: v for k, v in report.metrics.items() if k.startswith("alert/")}
        assert flags == {f"alert/{name}": 0.0 for name in get_args(AlertName)}
        watch.stop_if_asked(step)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"advantage__filtered_wrong_share": 1.0}, ["negatives_vanished"]),
        ({"advantage__filtered_wrong_share": 0.99}, []),
        ({"advantage__filtered_wrong_share": 1.0, "advantage__num_wrong": 0.0}, []),
        ({"rollout__truncated_share": 0.21}, ["length_at_cap"]),
        ({"rollout__truncated_share": 0.2}, []),
        ({"policy__logprob_gap_mean": 0.0151}, ["logprob_gap"]),
        ({"policy__logprob_gap_mean": 0.015}, []),
        ({"policy__logprob_gap_mean": 0.0151, "rollout__policy_lag": 0.5}, []),
        ({"judge__num_abstained": 6.0}, ["judge_abstaining"]),
        ({"judge__num_abstained": 5.0}, []),
        ({"judge__num_abstained": 0.0, "judge__num_asked": 0.0}, []),
        ({"rollout__unparsed_share": 0.21}, ["unparsed"]),
        ({"rollout__unparsed_share": 0.2}, []),
        (
            {"rollout__unparsed_share": 0.5, "rollout__truncated_share": 0.5},
            ["length_at_cap", "unparsed"],
        ),
    ],
)
def test_rules_at_their_thresholds(changes: dict[str, float], expected: list[str]) -> None:
    assert names_on(AlertWatch(AlertsSection()), 1, **changes) == expected


@pytest.mark.parametrize(
    ("settings", "changes", "expected"),
    [
        ({"max_truncated_share": 0.5}, {"rollout__truncated_share": 0.5}, []),
        ({"max_truncated_share": 0.1}, {"rollout__truncated_share": 0.15}, ["length_at_cap"]),
        ({"max_logprob_gap": 0.1}, {"policy__logprob_gap_mean": 0.1}, []),
        ({"max_logprob_gap": 0.003}, {}, ["logprob_gap"]),
        ({"max_abstain_share": 0.5}, {"judge__num_abstained": 50.0}, []),
        ({"max_abstain_share": 0.01}, {"judge__num_abstained": 2.0}, ["judge_abstaining"]),
        ({"max_unparsed_share": 0.5}, {"rollout__unparsed_share": 0.5}, []),
        ({"max_unparsed_share": 0.1}, {"rollout__unparsed_share": 0.15}, ["unparsed"]),
        ({"min_slot_1_share": 0.2}, {"rollout__slot_1_share": 0.25}, []),
        ({"min_slot_1_share": 0.45}, {"rollout__slot_1_share": 0.44}, ["slot_drift"]),
        ({"max_slot_1_share": 0.8}, {"rollout__slot_1_share": 0.75}, []),
        ({"max_slot_1_share": 0.55}, {"rollout__slot_1_share": 0.56}, ["slot_drift"]),
        ({"min_entropy": 0.5}, {"policy__entropy": 0.4}, ["entropy_collapse"]),
        ({"min_entropy": 0.01}, {"policy__entropy": 0.015}, []),
        ({"max_kl": 2.0}, {"policy__reference_kl": 1.5}, []),
        ({"max_kl": 0.01}, {"policy__behaviour_kl": 0.02}, ["kl_above_bound"]),
    ],
)
def test_every_threshold_is_the_recipes(
    settings: dict[str, object], changes: dict[str, float], expected: list[str]
) -> None:
    watch = AlertWatch(AlertsSection.model_validate({"window": 1, **settings}))
    assert names_on(watch, 1, **changes) == expected


@pytest.mark.parametrize(
    ("share", "drifts"), [(0.61, True), (0.39, True), (0.6, False), (0.4, False)]
)
def test_slot_drift_needs_a_full_window(share: float, drifts: bool) -> None:
    watch = AlertWatch(AlertsSection(window=3))
    assert names_on(watch, 1, rollout__slot_1_share=share) == []
    assert names_on(watch, 2, rollout__slot_1_share=share) == []
    assert names_on(watch, 3, rollout__slot_1_share=share) == (["slot_drift"] if drifts else [])


def test_slot_drift_is_about_the_moving_mean() -> None:
    watch = AlertWatch(AlertsSection(window=3))
    shares = [0.5, 0.5, 0.9, 0.5, 0.5, 0.5]  # means of three: 0.633, 0.633, 0.633, 0.5
    seen = [bool(names_on(watch, i, rollout__slot_1_share=s)) for i, s in enumerate(shares)]
    assert seen == [False, False, True, True, True, False]


def test_missing_metrics_raise_no_alert() -> None:
    watch = AlertWatch(AlertsSection(window=1))
    report = watch.step(StepReport(1, {"reward/total": 1.0}))
    assert set(report.metrics.values()) == {1.0, 0.0}


def test_a_beginning_and_an_end_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = AlertWatch(AlertsSection())
    with caplog.at_level(logging.WARNING):
        for step, share in enumerate([0.0, 0.5, 0.6, 0.5, 0.0, 0.0], start=1):
            names_on(watch, step, rollout__truncated_share=share)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "step 2: alert length_at_cap: traces run into model.max_new_tokens: raise it, or lower "
        "learner.lr if they are garbled",
        "step 5: alert length_at_cap is over",
    ]


def test_a_resumed_watch_goes_on_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    settings = AlertsSection(window=3)
    drifting = [{**HEALTHY, "rollout/slot_1_share": 0.9}] * 3
    whole = AlertWatch(settings)
    for step, metrics in enumerate(drifting, start=1):
        whole.step(StepReport(step, metrics))
    caplog.clear()
    resumed = AlertWatch(settings, drifting)
    assert resumed.active == whole.active != []
    assert names_on(resumed, 4, rollout__slot_1_share=0.9) == ["slot_drift"]
    assert caplog.records == []  # it began before the resume


def test_a_run_ends_only_for_alerts_it_is_told_to_stop_on() -> None:
    watch = AlertWatch(AlertsSection(stop_on=("unparsed",)))
    names_on(watch, 1, rollout__truncated_share=1.0)
    watch.stop_if_asked(1)
    names_on(watch, 2, rollout__unparsed_share=1.0)
    with pytest.raises(AlertError, match=r"step 2: alert unparsed: .* alerts\.stop_on names it"):
        watch.stop_if_asked(2)


def refused(recipe: Recipe, *overrides: str) -> str:
    path = recipe.run_dir.parent / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def test_unknown_alerts_are_refused_with_the_nearest_name(tiny_recipe: Recipe) -> None:
    message = refused(tiny_recipe, "alerts.stop_on=[slot_drif]")
    assert "alerts.stop_on: there is no alert 'slot_drif'; did you mean 'slot_drift'?" in message
    assert "known: negatives_vanished, slot_drift" in refused(tiny_recipe, "alerts.stop_on=[xyz]")
    assert "alerts.stop_on" in refused(tiny_recipe, "alerts.stop_on=unparsed")
    assert "did you mean 'window'?" in refused(tiny_recipe, "alerts.windw=3")


def test_slot_bounds_that_exclude_everything_are_refused(tiny_recipe: Recipe) -> None:
    message = refused(tiny_recipe, "alerts.min_slot_1_share=0.7")
    assert "alerts.min_slot_1_share (0.7) must be below alerts.max_slot_1_share (0.6)" in message


def test_the_section_comes_back_from_yaml() -> None:
    assert make_recipe().alerts == AlertsSection()
    assert AlertsSection.model_validate({"stop_on": ["unparsed"]}).stop_on == ("unparsed",)


# Alerts over windows --------------------------------------------------------------------------


def last_on(settings: AlertsSection, *steps: dict[str, float]) -> list[str]:
    """The alerts that are on after the last of these steps."""
    watch = AlertWatch(settings)
    for number, metrics in enumerate(steps, start=1):
        on = names_on(watch, number, **{k.replace("/", "__"): v for k, v in metrics.items()})
    return on


def test_entropy_collapses_when_its_mean_over_a_full_window_is_below_the_bound() -> None:
    settings = AlertsSection(window=3, min_entropy=0.02)
    low, high = {"policy/entropy": 0.01}, {"policy/entropy": 0.05}
    assert last_on(settings, low, low) == []
    assert last_on(settings, low, low, low) == ["entropy_collapse"]
    assert last_on(settings, high, low, low) == []  # mean 0.0233
    assert last_on(settings, high, low, low, low) == ["entropy_collapse"]
    assert last_on(AlertsSection(window=3), low, low, low) == []  # off unless a bound is given


@pytest.mark.parametrize("name", ["policy/reference_kl", "policy/behaviour_kl"])
def test_either_kl_above_the_bound_is_an_alert(name: str) -> None:
    assert last_on(AlertsSection(max_kl=0.1), {name: 0.11}) == ["kl_above_bound"]
    assert last_on(AlertsSection(max_kl=0.1), {name: 0.1}) == []
    assert last_on(AlertsSection(), {name: 100.0}) == []


def judged(match: float, right: float) -> dict[str, float]:
    return {"judge/match_share": match, "reward/result": right}


@pytest.mark.parametrize(
    ("match", "right", "on"),
    [
        (0.75, 0.5, True),
        (0.75, 0.25, True),
        (0.75, 0.5625, False),  # more answers are right: that is what consistency is for
        (0.625, 0.5, True),
        (0.5625, 0.5, False),
    ],
)
def test_consistency_that_rises_alone_is_an_alert(match: float, right: float, on: bool) -> None:
    settings = AlertsSection(window=2, max_match_rise=0.125)
    before = [judged(0.25, 0.25), judged(0.75, 0.75)]  # means 0.5 and 0.5
    after = [judged(match, right)] * 2
    expected = ["consistent_but_not_better"] if on else []
    assert last_on(settings, *before, *after) == expected
    assert last_on(settings, *before[1:], *after) == []  # needs two full windows
    assert last_on(settings, judged(0.0, 1.0), *before, *after) == expected  # and no more


@pytest.mark.parametrize(("max_rise", "on"), [(0.0625, True), (0.25, False)])
def test_the_rise_of_consistency_is_the_recipes(max_rise: float, on: bool) -> None:
    settings = AlertsSection(window=1, max_match_rise=max_rise)
    after = judged(0.5625, 0.5) if on else judged(0.625, 0.5)
    expected = ["consistent_but_not_better"] if on else []
    assert last_on(settings, judged(0.5, 0.5), after) == expected


@pytest.mark.parametrize("name", ["learner/loss", "learner/grad_norm"])
def test_a_spike_is_far_above_the_median_of_the_window_before(name: str) -> None:
    settings = AlertsSection(window=3)
    calm = [{name: 2.0}, {name: 90.0}, {name: 0.5}]  # median 2
    assert last_on(settings, *calm, {name: 20.1}) == ["loss_spike"]
    assert last_on(settings, *calm, {name: 20.0}) == []
    assert last_on(settings, *calm[1:], {name: 1e6}) == []  # no full window before it
    assert last_on(AlertsSection(window=3, max_spike=11), *calm, {name: 20.1}) == []


def test_a_loss_may_spike_downwards_and_small_sizes_never_do() -> None:
    settings = AlertsSection(window=1)
    assert last_on(settings, {"learner/loss": 0.01}, {"learner/loss": -1.1}) == ["loss_spike"]
    assert last_on(settings, {"learner/loss": 0.01}, {"learner/loss": -1.0}) == []


def test_a_resumed_watch_remembers_two_windows() -> None:
    settings = AlertsSection(window=2)
    steps = [{**HEALTHY, **judged(0.5, 0.5)}] * 2 + [{**HEALTHY, **judged(0.75, 0.5)}] * 2
    assert [alert.name for alert in AlertWatch(settings, steps).active] == [
        "consistent_but_not_better"
    ]
