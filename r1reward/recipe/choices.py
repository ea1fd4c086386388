"""The names that settings choose between: each list is declared here, and only here."""

from typing import Literal

TemplateName = Literal["standard", "authors", "short", "vl-rewardbench", "multimodal-rewardbench"]
JudgeTemplateName = Literal["standard", "short"]
JudgeReplyMode = Literal["strict", "authors"]
FormatMode = Literal[
    "strict", "tolerant", "loose", "authors", "vl-rewardbench", "multimodal-rewardbench"
]

OrderMode = Literal["both", "single", "stored", "authors", "random", "parity"]
BenchmarkName = Literal[
    "vl-rewardbench",
    "mm-rlhf-rewardbench",
    "multimodal-rewardbench",
    "pairs",
    "shapes",
    "shapes-hard",
]
SuiteName = Literal["lmms-eval", "vlmevalkit"]
Contradictions = Literal["drop", "keep"]
MissingMedia = Literal["refuse", "drop"]

FilterRule = Literal["sigma", "authors", "keep_both_signs"]

SceneSplit = Literal["train", "heldout"]
HardSplit = Literal["hard_train", "hard_heldout"]
ShapesSplit = Literal[SceneSplit, HardSplit]

Pairing = Literal["all", "adjacent", "extremes"]
SimilarTexts = Literal["off", "both", "one"]
SimilarImages = Literal["off", "exact", "near"]
