"""Libraries that train other models than torch: one file each.

Does not know: runs or versions.
"""
