"""Training: the run context that user code sees, fitted preprocessing, checkpoints, worker processes, the saved model.

Does not know: where data comes from (a feed is handed in) or who accepts what it writes.
"""
