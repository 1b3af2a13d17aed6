"""Blocks that two models or more share, in plain PyTorch."""
