"""Command line of anomalib with a working ``--seed_everything``, and lines instead of bars for log files."""

import os
import secrets
import sys
from collections.abc import Sequence

from anomalib.cli.cli import AnomalibCLI
from lightning.pytorch import seed_everything

from anomalib_plus.epoch_lines import EpochLines

_LARGEST_SEED = 2**32 - 1


class SeededCLI(AnomalibCLI):
    """Command line that seeds all random generators, also of dataloader workers, before building model and data.

    An integer is the seed, True draws one, False does not seed. The seed is stored in ``config.yaml`` beside the
    results, so that the run can be repeated.

    Where standard output is no terminal, or with ``quiet``, a line per epoch replaces the bar; ``quiet`` also leaves
    out the tables of the layers and of the test metrics.
    """

    def __init__(self, args: Sequence[str] | None = None, run: bool = True, quiet: bool = False) -> None:
        self.quiet = quiet
        super().__init__(args, run)

    def instantiate_classes(self) -> None:
        """Seed, then build model, data and engine."""
        seed = self._get(self.config, "seed_everything", default=False)  # `benchmark` and `install` do not have it
        if seed is not False:
            self.config[self.subcommand]["seed_everything"] = seed_everything(self._choose(seed), workers=True)
        super().instantiate_classes()

    def instantiate_engine(self) -> None:
        """Build the engine, with lines instead of a bar where nobody watches it."""
        trainer = self._get(self.config_init, "trainer", default={})
        if trainer and trainer["enable_progress_bar"] is None and (self.quiet or not sys.stdout.isatty()):
            trainer["enable_progress_bar"] = False
            callbacks = trainer["callbacks"] or []
            callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
            trainer["callbacks"] = [*callbacks, EpochLines(self.quiet)]
        if trainer and self.quiet and trainer["enable_model_summary"] is None:
            trainer["enable_model_summary"] = False
        super().instantiate_engine()

    def _run_subcommand(self) -> None:
        """Run the command; with ``quiet``, print the file of an export, which anomalib logs."""
        if self.quiet and self.subcommand == "export":
            sys.stdout.write(f"exported: {self.engine.export(**self._prepare_subcommand_kwargs('export'))}\n")
        else:
            super()._run_subcommand()

    @staticmethod
    def _choose(seed: bool | int) -> int | None:
        if seed is not True:
            return seed
        # All processes of a distributed training need one seed: Lightning passes them that of the first.
        return None if "PL_GLOBAL_SEED" in os.environ else secrets.randbelow(_LARGEST_SEED)
