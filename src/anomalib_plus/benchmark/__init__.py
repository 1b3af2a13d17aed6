"""The benchmark: models, data sets and seeds side by side under one protocol, with results that outlive any crash.

Nothing of torch or anomalib is imported at the top of the modules that plan, run and store: a sweep's own process stays
small, and only the processes of its jobs load them.
"""
