"""What every model of anomalib-plus must do, run for each name in ``anomalib_plus.models.__all__``.

A new model enters by one line in ``small_models.py``.
"""
