"""Benchmark of models, data sets and seeds under one protocol.

Modules that plan, run and store import neither torch nor anomalib at the top: only the processes of the jobs load them.
"""
