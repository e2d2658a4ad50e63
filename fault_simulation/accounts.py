"""The checks at the end of a simulation: the server's record against the journal."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fault_simulation import history

CENT = 0.005
RUNAWAY, RUNAWAY_S = 20, 10.0  # exits and single stops within this time, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a simulation has ended.

    Attributes:
        position: at the server, contracts, signed.
        earned: by the server's account, after costs, account currency.
        excused: client order ids that could not be journaled, because the disk failed.
        executions_differ: the server's habits change what is reported of executions: contracts per order are compared.
        halted: it did not agree with the server, but had stopped trading by itself and said so: what it does not know
            need not be booked.
        unlisted: the server lists no executions: a round trip made while the daemon was away can't be known, nor which
            of two orders has filled.
    """

    position: int
    earned: float
    excused: Collection[str]
    executions_differ: bool = False
    halted: bool = False
    unlisted: bool = False


def findings(record: list[history.Line], journal: Path, ending: Ending) -> Iterator[str]:
    """Yield what is wrong, one sentence each.

    Args:
        record: the server's record of order traffic.
        journal: path of the last daemon's journal, closed.
    """
    yield from _orders(record, journal, ending.excused)
    taken_over = False
    if ending.executions_differ or ending.halted:
        yield from _contracts(record, journal, ending)
    else:
        taken_over = yield from _executions(record, journal, ending.excused)
    if ending.halted:
        return
    on_file = history.position_in_journal(journal)
    if not on_file == history.position_at_server(record) == ending.position:
        yield f"position on file {on_file}, at the server {ending.position}"
    if ending.position or taken_over or ending.executions_differ:
        return
    if abs(ending.earned - history.earned(journal)) > CENT:
        yield f"earned {history.earned(journal):.2f} by the journal, {ending.earned:.2f} by the server"


def _orders(record: list[history.Line], journal: Path, excused: Collection[str]) -> Iterator[str]:
    for order_id in history.sent_twice(record):
        yield f"sent twice: {order_id}"
    for order_id, sent in history.unknown_orders(record, journal):
        if order_id not in excused and not order_id.startswith(history.BY_HAND):
            yield f"at the server, not on file: {order_id} {sent}"
    for order_id in history.unattributed(journal):
        yield f"no decision asked for it: {order_id}"
    for order_id in history.entered_while_halted(journal):
        yield f"entered while halted: {order_id}"
    for order_id in history.runaway(record, journal, RUNAWAY, RUNAWAY_S):
        yield f"more than {RUNAWAY} exits and stops sent within {RUNAWAY_S:g} s: {order_id}"


def _executions(record: list[history.Line], journal: Path, excused: Collection[str]) -> Generator[str, None, bool]:
    """Compare execution by execution; returns whether external trading alone makes the difference."""
    external = {order_id for order_id in history.sent(record) if order_id.startswith(history.BY_HAND)}
    # With external orders too, a fill with an unknown order number can't always be attributed.
    free = {*excused, *(history.sent(record) if external else ())}
    made_up, lost = history.made_up_or_lost(record, journal, free)
    if history.adopted(made_up, lost):
        return True
    yield from (f"booked, but never happened: {fill}" for fill in made_up)
    yield from (f"happened, but is not booked: {fill}" for fill in lost)
    return False


def _contracts(record: list[history.Line], journal: Path, ending: Ending) -> Iterator[str]:
    """Compare contracts per order: never more booked than filled, and none missing unless the daemon has halted."""
    filled, booked = history.contracts_at_server(record), history.contracts_in_journal(journal)
    external = any(order_id.startswith(history.BY_HAND) for order_id in history.sent(record))
    if external:
        return  # an external trader's contracts may be on file, or not
    if ending.excused or ending.unlisted:
        filled, booked = Counter({"all": filled.total()}), Counter({"all": booked.total()})
    for order_id, contracts in (booked - filled).items():
        yield f"booked, but never happened: {contracts} contracts of {order_id or 'no order'}"
    if not ending.halted and not ending.unlisted:
        for order_id, contracts in (filled - booked).items():
            yield f"happened, but is not booked: {contracts} contracts of {order_id}"


def fingerprint(record: Path, journal: Path, notes: Iterable[str]) -> str:
    """Hash of the server's record, the journal's tables and the notes of the simulation."""
    digest = hashlib.sha256(record.read_bytes())
    for table in history.TABLES:
        for row in history.rows(journal, f"SELECT * FROM {table}"):  # constant names
            digest.update(json.dumps(row).encode())
    digest.update("\n".join(notes).encode())
    return digest.hexdigest()[:16]
