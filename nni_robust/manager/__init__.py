"""Everything that talks to NNI's manager.

It stays empty: the strategy host must connect before anything heavy is imported.
"""
