"""Inference: who writes the commands. Does not depend on pytest."""
