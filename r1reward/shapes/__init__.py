"""The built-in miniature: synthetic scenes, preference pairs and a tiny Qwen2.5-VL trained on them.

It plays, on two CPU cores, the part that a 7B model and human preferences play in the paper.
Imports the standard library only, so that asking where the weights are never pays for torch.
"""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"
"""A Hugging Face folder: config, tokenizer, processor, chat template, weights, model card."""
