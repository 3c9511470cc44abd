"""Inference: who writes the commands. Knows no pytest."""
