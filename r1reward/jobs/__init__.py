"""A recipe as a job of a Ray cluster."""
