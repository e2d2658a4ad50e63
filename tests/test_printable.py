"""Text of others is one line, and no terminal obeys it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.printable import printable


@given(st.text())
def test_any_text_becomes_one_printable_line(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown


@given(st.text().filter(str.isprintable))
def test_a_printable_text_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\r\nlines", "two  lines"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eesrever", "\\u202eesrever"),
        ("\ud800", "\\ud800"),
        ("é ✓", "é ✓"),
    ],
)
def test_controls_are_shown_as_what_they_are(text, shown):
    assert printable(text) == shown
