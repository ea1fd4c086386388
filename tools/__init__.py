"""Programs that run from the checkout."""
