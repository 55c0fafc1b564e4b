"""The cluster: where a step goes, the engines that launch it, and the shim that watches it.

Does not know: what a step computes.
"""
