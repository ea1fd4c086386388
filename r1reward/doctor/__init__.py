"""Is this machine ready for a run? Each check looks at one thing and says what to do about it."""
