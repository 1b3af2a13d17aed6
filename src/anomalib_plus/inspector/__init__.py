"""From images of good parts to an inspector: the build, and the bundle that it writes."""
