"""Votes of several samples of a row, and when enough of them are drawn."""
