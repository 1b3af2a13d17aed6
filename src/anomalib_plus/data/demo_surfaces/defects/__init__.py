"""Defects: functions of a scene and a random generator that return the defective image and the mask of the defect.

They are drawn along curves and outlines, so that they resemble none of the synthetic anomalies that models train with.
"""

from anomalib_plus.data.demo_surfaces.defects.contamination import contamination
from anomalib_plus.data.demo_surfaces.defects.deformation import deformation
from anomalib_plus.data.demo_surfaces.defects.hole import hole
from anomalib_plus.data.demo_surfaces.defects.scratch import scratch

DEFECTS = {"scratch": scratch, "hole": hole, "contamination": contamination, "deformation": deformation}

__all__ = ["DEFECTS"]
