"""How the built-in miniature is made: its corpus, its network, its training and its gates."""
