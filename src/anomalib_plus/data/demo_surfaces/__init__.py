"""DemoSurfaces: an embedded data set that needs neither a download nor a camera."""

from anomalib_plus.data.demo_surfaces.datamodule import DemoSurfaces

__all__ = ["DemoSurfaces"]
