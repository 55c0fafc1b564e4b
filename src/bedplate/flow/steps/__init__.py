"""What a worker does, one file for each kind of step: the only modules in which rooms are wired together.

Does not know: the ledger, or other steps than its own.
"""
