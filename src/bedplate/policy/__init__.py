"""Policy: which offers a project's rules allow, where its data may go, and what it spent. Passes and folds only.

Does not know: pools, engines, files or the ledger's form.
"""
