"""The planner of training: memory, time, cost and energy of a step under a mesh, and which mesh is best. Pure arithmetic.

Does not know: torch, processes or files; devices come from the catalog as `core.device.Device`.
"""
