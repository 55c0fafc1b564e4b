"""Clients of other people's model stores, one file each.

Does not know: versions or the ledger.
"""
