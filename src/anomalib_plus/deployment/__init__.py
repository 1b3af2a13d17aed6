"""Models as they are deployed: exported by anomalib, compared with the eager model, and timed."""
