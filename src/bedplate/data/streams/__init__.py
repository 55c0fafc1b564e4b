"""Streams, one file each.

Does not know: tables; `ingest` carries records there.
"""
