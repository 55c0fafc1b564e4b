"""Tracking and registry in MLflow's language: its REST routes over the ledger, the series store and a folder of artifacts.

Does not know: sockets of other services, or what a metric means.
"""
