"""Models as they are deployed: exported by anomalib, compared with the eager model, and timed."""

import sys

# OpenVINO and nncf tell Google of their use unless this module is missing. Not in a function, because a process that
# multiprocessing spawns imports this package before it calls anything.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
