"""Build of an inspector: candidates compared on images of good parts, the best one calibrated and exported."""
