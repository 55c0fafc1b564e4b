"""Checkpoints of a training run: every rank writes its part, one manifest commits them, and what is loaded was verified.

Does not know: when one is due, or what the user trains (the keeper says).
"""
