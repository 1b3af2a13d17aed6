"""Seeded splits."""

from collections.abc import Sequence

import torch

from anomalib_plus.counts import counted


def hold_out(n: int, share: float, seed: int, groups: Sequence[str] | None = None) -> tuple[list[int], list[int]]:
    """Split the numbers 0 to n - 1 at random, the same way on every machine.

    Args:
        n: Number of items.
        share: Share of them to hold out, between 0 and 1; rounded, but both parts get at least one item.
        seed: Seed of the split.
        groups: Name of each item's group. Groups stay whole, so the part held out can be smaller or larger than the
            share: it takes groups in random order as long as they fit, and the smallest group if none does.

    Returns:
        Indices that are kept and indices that are held out, in ascending order.

    Raises:
        ValueError: If the share is not between 0 and 1, there is another number of groups than of items, or there are
            fewer than two items or groups.
    """
    if not 0 < share < 1:
        msg = f"The share to hold out must lie between 0 and 1, got {share}; 0.2 holds out a fifth."
        raise ValueError(msg)
    names = [str(index) for index in range(n)] if groups is None else list(groups)
    if len(names) != n:
        msg = f"There must be one group for each item, got {counted(len(names), 'group')} for {counted(n, 'item')}."
        raise ValueError(msg)
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    if len(members) < 2:
        what = "items" if groups is None else "groups"
        msg = f"At least two {what} are needed to hold some out, got {len(members)}."
        raise ValueError(msg)
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [list(members.values())[position] for position in order]
    taken: list[list[int]] = []
    missing = max(1, round(share * n))
    for group in shuffled:
        if len(group) <= missing and len(taken) < len(shuffled) - 1:
            taken.append(group)
            missing -= len(group)
    held_out = sorted(index for group in taken or [min(shuffled, key=len)] for index in group)
    return sorted(set(range(n)) - set(held_out)), held_out
