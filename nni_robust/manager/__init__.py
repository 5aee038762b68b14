"""Experiments under NNI's manager."""
