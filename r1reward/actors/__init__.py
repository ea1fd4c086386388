"""Thin Ray wrappers around the engines, and the running system of them."""
