"""Comparison of exported models with the eager model: agreement and latency of every backend."""

import anomalib_plus.deployment  # noqa: F401 -- disables OpenVINO's usage data
