"""What a training loss gives: the number to minimise and its parts."""

from typing import NamedTuple

from torch import Tensor


class LossTerms(NamedTuple):
    """The weighted total and the unweighted terms that were computed, by name; scalars."""

    total: Tensor
    terms: dict[str, Tensor]
