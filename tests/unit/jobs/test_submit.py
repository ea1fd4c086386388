"""The job's end as an exit status, and what is said about it."""

from __future__ import annotations

import pytest
from ray.job_submission import JobStatus

from r1reward.jobs.submit import JobRequest, exit_status, without_secrets
from r1reward.recipe.files import load_recipe
from tests.unit.jobs.test_job_package import LOCAL


@pytest.mark.parametrize(
    ("status", "code", "ours"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_the_exit_status_is_that_of_the_command(
    status: JobStatus, code: int | None, ours: int
) -> None:
    assert exit_status(status, code) == ours


def test_an_error_of_the_cluster_is_shown_without_the_secrets_in_it() -> None:
    said = "cannot set up {'env_vars': {'KEY': 'sk-123'}}"
    assert without_secrets(said, ["sk-123"]) == "cannot set up {'env_vars': {'KEY': '***'}}"


def test_a_pipeline_runs_whole_and_other_recipes_train() -> None:
    pipeline = LOCAL.replace("local.yaml", "pipeline_local.yaml")
    assert JobRequest(load_recipe(LOCAL), "http://head:8265").job_verb == "train"
    assert JobRequest(load_recipe(pipeline), "http://head:8265").job_verb == "run"
    assert JobRequest(load_recipe(pipeline), "http://head:8265", "sft").job_verb == "sft"
