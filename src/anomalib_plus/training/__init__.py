"""The base module of the models and the callbacks of their training."""
