"""Models: metric series, the MLflow-compatible routes, the gate, the model card.

Does not know: how a model is trained or served.
"""
