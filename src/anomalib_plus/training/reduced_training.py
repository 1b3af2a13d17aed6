"""Category of warnings about trainings that lack a part of the method."""


class ReducedTrainingWarning(UserWarning):
    """Training without a part of the method, so that its results are not comparable."""
