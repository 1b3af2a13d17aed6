"""Result of a training loss: the total to minimise and its terms."""

from typing import NamedTuple

from torch import Tensor


class LossTerms(NamedTuple):
    """Weighted total, and the unweighted terms by name; scalars."""

    total: Tensor
    terms: dict[str, Tensor]
