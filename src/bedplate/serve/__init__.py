"""Serving: the gateway that answers over HTTP and remembers what it said.

Does not know: features or models; a lookup and a runtime are handed in.
"""
