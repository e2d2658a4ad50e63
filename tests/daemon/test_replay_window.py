"""`replay --from --to`: what is refused, and how it is described."""

from pathlib import Path

import pytest

from mia_daemon.daemon.replay_window import WHOLE_FILE, ReplayWindow
from mia_daemon.errors import UsageError

FILE, FIRST, LAST = Path("x.scid"), 1_000_000_000, 5_000_000_000


@pytest.mark.parametrize("window", [(0, 2**63 - 1), (FIRST, LAST), (LAST, LAST + 1), (0, FIRST + 1), (0, LAST + 9)])
def test_a_window_with_an_event_is_taken(window):
    ReplayWindow(*window).check(FILE, FIRST, LAST)


@pytest.mark.parametrize(
    ("window", "says"),
    [
        ((LAST, LAST), "--to has to be later than --from"),
        ((LAST, FIRST + 1), "--to has to be later than --from"),
        ((LAST + 1, LAST + 9), "--from 1970-01-01T00:00:05.000000Z is after the last event: the events of x.scid run"),
        ((0, FIRST), "--to 1970-01-01T00:00:01.000000Z is not after the first event: the events of x.scid run from"),
    ],
)
def test_a_window_without_one_is_refused_with_the_files_span(window, says):
    with pytest.raises(UsageError) as refused:
        ReplayWindow(*window).check(FILE, FIRST, LAST)
    assert says in str(refused.value)


def test_a_window_says_what_it_is():
    assert str(WHOLE_FILE) == ""
    assert str(ReplayWindow(FIRST, LAST)) == (
        ", deciding from 1970-01-01T00:00:01.000000Z, up to 1970-01-01T00:00:05.000000Z"
    )
