"""A short search of the order table and the working orders; the long one is `make model-check`: docs/reliability.md."""

import pytest

from model_check.model import Model
from model_check.planted import FAULTS, planted
from model_check.search import Bounds, search
from model_check.states import Left
from model_check.venue import HABITS

STATES = 4000


@pytest.mark.parametrize("habits", HABITS, ids=str)
def test_nothing_is_violated(habits):
    found = search(Bounds(STATES, 120.0, habits=habits))
    assert (found.violation, found.trace) == ("", ())
    assert found.states >= STATES
    assert sum(found.answers.values()) > 100


def test_what_can_happen_does():
    """Without this, a model in which nothing happens would prove everything."""
    model = Model(HABITS[0], Left())
    states = [state for _, state in model.starts()]
    happened = set()
    for _ in range(2):
        steps = [step for state in states for step in model.steps(state)]
        happened |= {step.what for step in steps}
        states = [step.state for step in steps]
    by_us = {"restart", "disconnect", "ask", "cancel", "replace", "have no answer about"}
    by_server = {"receives", "opens", "rejects", "fills 1", "fills 2", "cancels by itself"}
    messages = {"we receive", "we receive, and will again", "is lost", "everything in flight arrives"}
    assert {*(f"we {what}" for what in by_us), *(f"server {what}" for what in by_server), *messages} <= happened


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault):
    with planted(fault):
        found = search(Bounds(20_000, 120.0, Left(faults=0, requests=1, queries=1), HABITS[0]))
    assert found.violation
    assert found.trace[0].startswith("start: ")


def test_the_trace_is_the_shortest_and_readable():
    with planted("partial-is-no-cover"):
        found = search(Bounds(20_000, 120.0, habits=HABITS[0]))
    assert found.violation == "the stop works for 1 contracts, which was told, and counts for 0 (it is partial)"
    assert found.trace[1:4] == (
        "server fills 1: stop",
        "we receive: stop 20 partial, 1 of 2 filled, execution 1 of 1",
        "then:",
    )
