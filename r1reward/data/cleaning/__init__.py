"""Stores made from stores: without duplicates, without leaks, split, mixed."""
