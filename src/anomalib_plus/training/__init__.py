"""Base module of the models, and callbacks of their training."""
