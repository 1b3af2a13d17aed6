"""What happened in each epoch of a training."""

from lightning.pytorch import Callback, LightningModule, Trainer


class EpochHistory(Callback):
    """Records number, learning rates and loss of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.learning_rates: list[list[float]] = []
        self.losses: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append(trainer.current_epoch)
        self.learning_rates.append([group["lr"] for o in trainer.optimizers for group in o.param_groups])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "train_loss" in trainer.callback_metrics:  # not where Lightning only closes the epoch it resumed
            self.losses.append(float(trainer.callback_metrics["train_loss"]))
