"""anomalib's command line with a working ``--seed_everything``, which anomalib 2.7 accepts and ignores."""

import os
import secrets

from anomalib.cli.cli import AnomalibCLI
from lightning.pytorch import seed_everything

_LARGEST_SEED = 2**32 - 1


class SeededCLI(AnomalibCLI):
    """Seeds every random generator, dataloader workers included, before model and data are built.

    As the option's help says: an integer is the seed, True draws one, False leaves the generators alone. The seed goes
    into the ``config.yaml`` beside the results, from where the run can be repeated.
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
        # The processes of one distributed training must agree: Lightning hands them the seed of the first.
        return None if "PL_GLOBAL_SEED" in os.environ else secrets.randbelow(_LARGEST_SEED)
