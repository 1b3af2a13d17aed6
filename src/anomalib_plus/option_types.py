"""Types of numbers on the command line, for ``argparse``."""

import math
from argparse import ArgumentTypeError
from collections.abc import Callable


def at_least(minimum: int, maximum: float = math.inf) -> Callable[[str], int]:
    """Return a function that reads a whole number from ``minimum`` to ``maximum``."""

    def integer(text: str) -> int:
        value = int(text)
        if not minimum <= value <= maximum:
            msg = f"{text} is less than {minimum}" if value < minimum else f"{text} is more than {maximum}"
            raise ArgumentTypeError(msg)
        return value

    return integer


def between(low: float, high: float = math.inf, includes_high: bool = False) -> Callable[[str], float]:
    """Return a function that reads a number above ``low`` and below ``high``, or up to ``high``."""

    def number(text: str) -> float:
        value = float(text)
        if not (low < value < high or (includes_high and value == high)):
            upper = "" if math.isinf(high) else f" and {'at most' if includes_high else 'below'} {high:g}"
            msg = f"{text} is not above {low:g}{upper}"
            raise ArgumentTypeError(msg)
        return value

    return number
