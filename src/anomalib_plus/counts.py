"""Counts in messages."""


def counted(number: float, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 step", "2 steps"; ``many`` is the plural if it is not ``one`` with an s."""
    shown = f"{number:g}" if isinstance(number, float) else number
    return f"{shown} {one if number == 1 else many or one + 's'}"
