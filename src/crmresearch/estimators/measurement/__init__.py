"""Latent constructs: composites, factors, ordered answers."""
