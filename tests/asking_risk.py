"""Asking the risk controller as the executor does: the moment first, then the entry."""


def check_entry(risk, bracket, prediction, snapshot):
    """The verdict on an entry for this prediction."""
    return risk.check_entry(bracket, risk.check_new_risk(prediction, snapshot), snapshot)
