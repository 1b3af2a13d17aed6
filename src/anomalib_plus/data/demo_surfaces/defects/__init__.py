"""Defects: functions of a scene and a generator that return the damaged picture and the mask of what they touched.

None of them resembles a transform that the models train with: they are drawn along curves and outlines, as layers.
"""

from anomalib_plus.data.demo_surfaces.defects.contamination import contamination
from anomalib_plus.data.demo_surfaces.defects.deformation import deformation
from anomalib_plus.data.demo_surfaces.defects.hole import hole
from anomalib_plus.data.demo_surfaces.defects.scratch import scratch

DEFECTS = {"scratch": scratch, "hole": hole, "contamination": contamination, "deformation": deformation}

__all__ = ["DEFECTS"]
