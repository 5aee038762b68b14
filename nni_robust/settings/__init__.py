"""Settings files: from plain values to objects."""
