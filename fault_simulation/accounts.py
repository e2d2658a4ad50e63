"""The checks at the end of a simulation: the server's record against the journal."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from fault_simulation import history

CENT = 0.005


def findings(
    record: list[history.Line], journal: Path, *, position: int, earned: float, excused: Collection[str]
) -> Iterator[str]:
    """Yield what is wrong, one sentence each.

    Args:
        record: the server's record of order traffic.
        journal: path of the last daemon's journal, closed.
        position: at the server, contracts, signed.
        earned: by the server's account, after costs, account currency.
        excused: client order ids that could not be journaled, because the disk failed.
    """
    for order_id in history.sent_twice(record):
        yield f"sent twice: {order_id}"
    for order_id, sent in history.unknown_orders(record, journal):
        if order_id not in excused and not order_id.startswith(history.BY_HAND):
            yield f"at the server, not on file: {order_id} {sent}"
    for order_id in history.unattributed(journal):
        yield f"no decision asked for it: {order_id}"
    for order_id in history.entered_while_halted(journal):
        yield f"entered while halted: {order_id}"
    external = {order_id for order_id in history.sent(record) if order_id.startswith(history.BY_HAND)}
    # With external orders too, a fill with an unknown order number can't always be attributed.
    free = {*excused, *(history.sent(record) if external else ())}
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
    """Hash of the server's record, the journal's tables and the notes of the simulation."""
    digest = hashlib.sha256(record.read_bytes())
    for table in history.TABLES:
        for row in history.rows(journal, f"SELECT * FROM {table}"):  # constant names
            digest.update(json.dumps(row).encode())
    digest.update("\n".join(notes).encode())
    return digest.hexdigest()[:16]
