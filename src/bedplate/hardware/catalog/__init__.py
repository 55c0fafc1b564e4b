"""The catalog of accelerators: a table of published figures, each with its source, and its reader.

Does not know: what a machine at hand has (`hardware.inventory`), or how fast a model trains on it.
"""
