"""The command line: one command, one file.

Does not know: how anything is done; it asks the flow and shows what comes back.
"""
