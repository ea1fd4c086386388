"""Preference pairs: prompt, order, verdict, requests, media."""
