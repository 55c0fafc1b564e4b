"""What comes from elsewhere: models by `dir://`, `hf://`, `mlflow://` and `s3://`, and whole stores of other trackers; and the way back.

Does not know: the ledger; readers give plain records, and `flow.importing` writes them.
"""
