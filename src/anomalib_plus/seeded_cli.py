"""Command line of anomalib with a working ``--seed_everything``, which anomalib 2.7 ignores."""

import os
import secrets

from anomalib.cli.cli import AnomalibCLI
from lightning.pytorch import seed_everything

_LARGEST_SEED = 2**32 - 1


class SeededCLI(AnomalibCLI):
    """Command line that seeds all random generators, also of dataloader workers, before building model and data.

    An integer is the seed, True draws one, False does not seed. The seed is stored in ``config.yaml`` beside the
    results, so that the run can be repeated.
    """

    def instantiate_classes(self) -> None:
        """Seed, then build model, data and engine."""
        seed = self._get(self.config, "seed_everything", default=False)  # `benchmark` and `install` do not have it
        if seed is not False:
            self.config[self.subcommand]["seed_everything"] = seed_everything(self._choose(seed), workers=True)
        super().instantiate_classes()

    @staticmethod
    def _choose(seed: bool | int) -> int | None:
        if seed is not True:
            return seed
        # All processes of a distributed training need one seed: Lightning passes them that of the first.
        return None if "PL_GLOBAL_SEED" in os.environ else secrets.randbelow(_LARGEST_SEED)
