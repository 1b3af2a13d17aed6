"""Anomaly maps that can be exchanged on a trained model."""

from typing import Any


class SwitchableMapMixin:
    """Property ``anomaly_map`` of a module whose network has a ``map_generator`` with a settable ``map_type``.

    The maps have no parameters, so a trained model can give any of them. Checkpoints keep the choice.
    """

    model: Any
    hparams: Any

    @property
    def anomaly_map(self) -> str:
        """The anomaly map in use; assign to it to switch.

        Raises:
            ValueError: If there is no such map.
        """
        return self.model.map_generator.map_type

    @anomaly_map.setter
    def anomaly_map(self, map_type: str) -> None:
        self.model.map_generator.map_type = map_type
        self.hparams["anomaly_map"] = map_type
