"""Comparison of exported models: agreement with the eager model and latency of every backend."""

import anomalib_plus.deployment  # noqa: F401 -- switches off OpenVINO's usage data
