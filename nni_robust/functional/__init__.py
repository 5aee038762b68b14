"""Tensor mathematics: every formula a pure function, without NNI."""
