"""Edges: what clients speak."""
