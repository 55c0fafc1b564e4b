"""Benchmarks: `make bench` prints one table of what, ours, peer, ratio, bar."""
