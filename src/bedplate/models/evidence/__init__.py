"""Evidence of a model version: one folder that verifies offline, with standard tools, on a machine that has no ledger.

Does not know: the ledger; the flow gathers the facts.
"""
