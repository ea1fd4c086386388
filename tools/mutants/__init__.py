"""Faults that the fast tests have to see: planted ones, and some drawn by a seed. ``make mutants``."""
