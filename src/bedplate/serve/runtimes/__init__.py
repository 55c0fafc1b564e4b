"""Runtimes, one file each: what turns rows into answers.

Does not know: HTTP.
"""
