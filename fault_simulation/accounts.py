"""The accounts drawn up at the end: every promise held against what is on file."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from fault_simulation import history

CENT = 0.005


def findings(
    record: list[history.Line], journal: Path, *, position: int, earned: float, excused: Collection[str]
) -> Iterator[str]:
    """What is wrong, one sentence each.

    Args:
        record: the server's.
        journal: the last daemon's, closed.
        position: at the server.
        earned: by the server's account, after costs.
        excused: orders that the journal could not be told of, because its disk failed.
    """
    for order_id in history.sent_twice(record):
        yield f"sent twice: {order_id}"
    for order_id, told in history.unknown_orders(record, journal):
        if order_id not in excused and not order_id.startswith(history.BY_HAND):
            yield f"at the server, not on file: {order_id} {told}"
    for order_id in history.unattributed(journal):
        yield f"no decision asked for it: {order_id}"
    for order_id in history.entered_while_halted(journal):
        yield f"entered while halted: {order_id}"
    strangers = {order_id for order_id in history.sent(record) if order_id.startswith(history.BY_HAND)}
    # Where somebody else trades too, whose an execution of unknown number was can't always be told.
    free = {*excused, *(history.sent(record) if strangers else ())}
    made_up, lost = history.made_up_or_lost(record, journal, free)
    if taken_over := history.adopted(made_up, lost):
        made_up.clear()
        lost.clear()
    yield from (f"booked, but never happened: {fill}" for fill in made_up)
    yield from (f"happened, but is not booked: {fill}" for fill in lost)
    on_file = history.position_in_journal(journal)
    if not on_file == history.position_at_server(record) == position:
        yield f"position on file {on_file}, at the server {position}"
    if not position and not taken_over and abs(earned - history.earned(journal)) > CENT:
        yield f"earned {history.earned(journal):.2f} by the journal, {earned:.2f} by the server"


def fingerprint(record: Path, journal: Path, notes: Iterable[str]) -> str:
    """Of everything on file, and of what was noted beside it."""
    digest = hashlib.sha256(record.read_bytes())
    for table in history.TABLES:
        for row in history.rows(journal, f"SELECT * FROM {table}"):  # names of ours
            digest.update(json.dumps(row).encode())
    digest.update("\n".join(notes).encode())
    return digest.hexdigest()[:16]
