"""Data: streams and files into versioned tables, point-in-time features, training sets, the feed and the online store.

Does not know: training, models or endpoints.
"""
