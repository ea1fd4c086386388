"""The recipe: what a run depends on, its files, and the recipe of every stage."""
