"""``anomalib-plus models``: the models, with a line on each and its presets."""

import argparse
import inspect
import sys
from collections.abc import Sequence

from anomalib_plus.presets import preset, preset_names


def main(arguments: Sequence[str]) -> int:
    """Print the models.

    Returns:
        The exit status 0. Wrong arguments exit with 2.
    """
    description = (
        "List the models. --model NAME trains one, anomalib train --model.help NAME explains its arguments; "
        "anomalib-plus config PRESET prints the path of a preset."
    )
    argparse.ArgumentParser(prog="anomalib-plus models", description=description).parse_args(arguments)
    from anomalib_plus import models

    classes = {name: preset(name)["model"]["class_path"].rpartition(".")[2] for name in preset_names()}
    for model in sorted(models.__all__, key=str.lower):
        summary = inspect.getdoc(getattr(models, model)).splitlines()[0]  # type: ignore[union-attr]
        own = ", ".join(name for name, class_name in classes.items() if class_name == model)
        sys.stdout.write(f"{model:8} {summary}\n{'':8} presets: {own or 'none'}\n")
    sys.stdout.write("anomalib train --model.help NAME explains a model's arguments and when to change them.\n")
    return 0
