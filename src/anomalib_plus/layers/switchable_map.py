"""Base of anomaly maps that can be exchanged on a trained network."""

from typing import Any, ClassVar

from torch import nn

from anomalib_plus.layers.checks import check_choice


class SwitchableMap(nn.Module):
    """Generator of one of several anomaly maps, named by ``map_type``, which may be changed at any time.

    A subclass names its maps in ``map_types`` and assigns ``map_type`` in its constructor.
    """

    map_types: ClassVar[Any]
    """Literal type of the names, the paper's first."""

    @property
    def map_type(self) -> str:
        """Name of the map in use; assign to it to switch.

        Raises:
            ValueError: If there is no such map, or the network cannot give it.
        """
        return self._map_type

    @map_type.setter
    def map_type(self, map_type: str) -> None:
        check_choice("anomaly_map", map_type, self.map_types)
        self.check_map(map_type)
        self._map_type = map_type

    def check_map(self, map_type: str) -> None:
        """Raise ``ValueError`` if the network lacks what this map shows; by default it lacks nothing."""
