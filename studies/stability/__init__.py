"""The stability study: presets under stress, seed by seed, and what became of each run."""
