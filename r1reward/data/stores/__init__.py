"""Pairs and rollouts on disk."""
