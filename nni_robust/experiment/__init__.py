"""Where the stages are joined, and meet NNI's manager."""
