"""Launchers, one file each: processes on this machine, and a simulated one for tests.

Does not know: why an attempt is started or what its result means.
"""
