"""Adapters to other people's stores: one file, one small protocol (`data.online.protocol`).

Does not know: features.
"""
