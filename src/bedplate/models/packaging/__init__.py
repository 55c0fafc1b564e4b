"""Packaging: which files may be a model version, what they say of themselves, and the folder that they become.

Does not know: the registry or the ledger.
"""
