"""What a recipe needs of GPUs and hosts."""
