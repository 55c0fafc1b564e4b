"""What every room speaks: spec, plan, run, event, ledger, versions, protocols, clock, errors, settings.

Does not know: any engine library, any room, or the flow.
"""
