"""Pipelines for continuous integration: what they do, and how GitHub and GitLab are told.

Does not know: files, git, or any service.
"""
