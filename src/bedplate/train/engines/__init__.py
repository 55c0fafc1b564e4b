"""Engines of training: what others built for running steps, each behind one small protocol of ours.

Does not know: which are installed; they are loaded by name.
"""
