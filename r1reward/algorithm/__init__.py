"""StableReinforce and its switches as pure functions (paper, section 4)."""
