"""A training that goes on without a part of the method."""


class ReducedTrainingWarning(UserWarning):
    """Warning that a training leaves out a part of its method, so that its results are not comparable."""
