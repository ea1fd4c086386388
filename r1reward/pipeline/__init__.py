"""The stages of a run: annotate, sft, select, train, final."""
