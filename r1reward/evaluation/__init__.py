"""What asks a model, and every number that follows from its answers."""
