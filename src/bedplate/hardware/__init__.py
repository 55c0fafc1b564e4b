"""Hardware: what a machine has.

Does not know: what will run on it.
"""
