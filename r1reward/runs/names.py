"""The names of a run folder's files, each here alone.

A pipeline's folder has one folder a stage; those of fine-tuning and of RL are run folders themselves.
"""

# A run, and an evaluation: what was asked for.
RECIPE = "recipe.yaml"
REPORT = "report.html"

# A run: one line a step, one file of rollouts a step, checkpoints, the trained model, the best one.
METRICS = "metrics.jsonl"
ROLLOUTS = "rollouts"
CHECKPOINTS = "checkpoints"
LOOP_STATE = "loop.json"
MODEL = "model"
BEST = "best"
BEST_RECORD = "best.json"
# One folder a held-out evaluation; also the folder of a pipeline's last stage.
EVALUATIONS = "eval"

# An evaluation: the pairs as they were shown, what was answered, and what that comes to.
SHOWN_PAIRS = "pairs.parquet"
ANSWERS = "answers.jsonl"
BLIND_ANSWERS = "answers_image_off.jsonl"
RESULT = "result.json"

# A pipeline's stage: what it was made from, a teacher's attempts, a selection's counts, the last tables.
STAGE = "stage.json"
ATTEMPTS = "attempts.jsonl"
COUNTS = "counts.json"
SUMMARY = "summary.md"
SUMMARY_NUMBERS = "summary.json"


def step_folder(num_steps_done: int) -> str:
    """The name of a checkpoint's or an evaluation's folder, by the steps behind its weights."""
    return f"step-{num_steps_done:06d}"
