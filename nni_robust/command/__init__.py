"""What each command of the command line does.

A module named after a command has ``add_arguments(parser)`` and ``run(options)``, and its docstring
is the command's help. These modules import torch and NNI only inside functions, so that ``--help``
answers at once. The other modules do the work.
"""
