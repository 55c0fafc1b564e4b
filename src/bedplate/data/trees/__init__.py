"""File trees as DVC 3 keeps them: `.dvc` files, the cache, remotes. What this adds, `dvc` checks out, and the other way round.

Does not know: tables and features, or the ledger.
"""
