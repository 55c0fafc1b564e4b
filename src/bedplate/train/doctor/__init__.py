"""The doctor of training runs: measured times in, a named bottleneck with its evidence and its gain out. Pure rules on arrays.

Does not know: the ledger, journals, or the command that asks.
"""
