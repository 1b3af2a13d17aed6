"""One message for every argument that takes one of a few strings."""

from typing import get_args


def check_choice(argument: str, value: str, choices: object) -> None:
    """Raise ``ValueError`` unless ``value`` is one of the strings of the Literal type ``choices``."""
    allowed = get_args(choices)
    if value not in allowed:
        msg = f"{argument} must be one of {', '.join(allowed)}, got {value!r}."
        raise ValueError(msg)
