"""The one OpenVINO core of a process."""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an optional dependency
    import openvino


@functools.cache
def openvino_core() -> "openvino.Core":
    """Return OpenVINO's core, the same in every call.

    It is never freed. OpenVINO's CPU plugin sets a stack for signals when it is made and frees it with itself, even if
    it is in use by then because there is a second plugin. The next signal, for example Ctrl-C, would end the process.
    """
    import openvino

    return openvino.Core()
