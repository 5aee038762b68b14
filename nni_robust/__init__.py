"""Search for neural architectures that withstand adversarial attacks, as a plugin of NNI 3.0."""

__version__ = "0.1.0"
