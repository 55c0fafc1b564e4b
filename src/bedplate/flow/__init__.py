"""The main flow: project to plan, plan to runs, runs to events. The first place to read, and the only one that wires rooms together.

Does not know: how a command line or a page shows what it does.
"""
