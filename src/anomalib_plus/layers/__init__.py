"""Modules and functions that several models share, in plain PyTorch."""
