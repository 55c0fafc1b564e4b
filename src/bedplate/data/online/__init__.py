"""The online store: features of one entity, or a batch of them, in one read, kept up to date while events arrive.

Does not know: models, requests or HTTP.
"""
