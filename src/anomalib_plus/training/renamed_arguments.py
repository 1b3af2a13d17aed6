"""Current names for the arguments in checkpoints of version 0.1."""

from collections.abc import Mapping
from typing import Any

AUGMENTER = "augmenter"


def renamed(arguments: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Return the arguments of a checkpoint under their current names.

    Args:
        arguments: Constructor arguments by name.
        model: Class with a table ``renamed_arguments`` from old to new names. ``augmenter.NAME`` is an argument of the
            synthetic anomalies, with which ``configure_augmenter`` makes them; ``augmenter`` switches them off. A new
            name with a dictionary also translates the value.
    """
    table: Mapping[str, str | tuple[str, Mapping[Any, Any]]] = model.renamed_arguments
    moved = {}
    for name in arguments.keys() & table.keys():
        new, values = entry if isinstance(entry := table[name], tuple) else (entry, {})
        moved[new] = values.get(arguments[name], arguments[name]) if values else arguments[name]
    prefix = f"{AUGMENTER}."
    of_augmenter = {name.removeprefix(prefix): moved.pop(name) for name in list(moved) if name.startswith(prefix)}
    if of_augmenter:
        switched_on = moved.get(AUGMENTER, True)
        moved[AUGMENTER] = model.configure_augmenter(**of_augmenter).config() if switched_on else False
    return {name: value for name, value in arguments.items() if name not in table} | moved
