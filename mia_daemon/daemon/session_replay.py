"""Repeats a recorded session: the same events, the same inputs of the account, and the configuration it began with."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mia_daemon.clock import NS_PER_S, EventClock
from mia_daemon.config import Mode, VarPaths
from mia_daemon.daemon.replay import Summary, begin_as_recorded, summary
from mia_daemon.daemon.replay_progress import ReplayProgress
from mia_daemon.daemon.run import DaemonRun, Repeats
from mia_daemon.daemon.session_recorder import SessionBeginning
from mia_daemon.daemon.status import SIMULATED
from mia_daemon.errors import FileFormatError, StartError, TapeDiffers, TapeEnds
from mia_daemon.execution.repeated import RepeatedBroker, TapePlayer
from mia_daemon.execution.tape_file import read_tape
from mia_daemon.features import cache, catalogue
from mia_daemon.feed.recording import Recording
from mia_daemon.products.instruments import instrument
from mia_daemon.records import EventArray, empty_events
from mia_daemon.trading.assembly import TradingAccount
from mia_daemon.trading.live_trading import Tally
from mia_daemon.trading.session_repeat import SessionRepeat


@dataclass(frozen=True, slots=True)
class Repetition:
    """What came of repeating a session.

    Attributes:
        recorded: how it began.
        journal: path of the repetition's, whose rows have the names of the session's.
        summary: its figures.
        inputs: repeated.
        parted: where it did something else than the session; "" where it never did.
        failures: errors that inputs ended in, as they should have in the session.
    """

    recorded: SessionBeginning
    journal: Path
    summary: Summary
    inputs: int
    parted: str
    failures: tuple[str, ...]


class _Outcome(NamedTuple):
    """What giving an account its inputs led to; `parted` and `failures` as in `Repetition`."""

    account: TradingAccount
    tally: Tally
    parted: str
    failures: tuple[str, ...]


class _Recorded:
    """The market events of a recording, from front to back."""

    def __init__(self, recording: Path) -> None:
        found = Recording(recording, may_be_empty=True)
        self.total = len(found)
        self._pieces = found.pieces()
        self._waiting = empty_events(0)

    def take(self, count: int) -> EventArray:
        """The next `count` events; fewer at the end of the recording."""
        while len(self._waiting) < count and (piece := next(self._pieces, None)) is not None:
            self._waiting = np.concatenate((self._waiting, piece)) if len(self._waiting) else piece
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken.copy()


def repeat(recording: Path, paths: VarPaths, *, on_progress: Callable[[str], None] = lambda _text: None) -> Repetition:
    """Repeat the session in the directory `recording`; blocks until done.

    Args:
        recording: the directory of a recording with inputs.
        paths: where to write: to `repeated-<run>` there, emptied first, since rows get the session's names.
        on_progress: called with a text before steps that take long.

    Raises:
        FileFormatError, StartError: the recording, or the models it was made with, can't be used.
    """
    recorded = SessionBeginning.read(recording)
    settings = recorded.session_settings(recording)
    traded = instrument(settings.instrument.symbol, settings.products)
    clock = EventClock()
    events = _Recorded(recording)
    cache.prepare(on_progress, lambda: clock.monotonic_ns() / NS_PER_S)
    on_progress(f"repeating session {recorded.run_id} of {traded.symbol}, {recorded.mode.value}, from {recording}")
    if settings.simulated:
        on_progress(SIMULATED)
    place, repeats = _place(paths, recorded.run_id, recording), Repeats(recorded.run_id, recorded.mode)
    with DaemonRun(settings, traded, Mode.REPLAY, place, clock, repeats=repeats) as run:
        _check_same(run, recorded, recording)
        begin_as_recorded(run, recording, on_progress)
        player = TapePlayer(read_tape(recording))
        started = clock.monotonic_ns()
        outcome = _repeat(run, recorded, player, events, clock, on_progress)
        run.checkpoint()
        for _ in run.remember():
            pass
        run.reporter.risk_snapshot()
        run.metrics.sample((), {})
        run.journal.end_run(run.run_id, clock.now_ns(), "feed ended")
        seconds = (clock.monotonic_ns() - started) / NS_PER_S
        figures = summary(run, outcome.account, outcome.tally, seconds)
        return Repetition(recorded, run.journal.path, figures, player.taken, outcome.parted, outcome.failures)


def _place(paths: VarPaths, run_id: str, recording: Path) -> VarPaths:
    """A directory for the files of a repetition, with nothing but the calendar of the session. Raises StartError."""
    place = VarPaths(paths.root / f"repeated-{run_id}")
    calendar = VarPaths(recording.absolute().parent.parent).calendar_cache
    try:
        if place.root.exists():
            shutil.rmtree(place.root)
        if calendar.is_dir():  # making it takes seconds
            shutil.copytree(calendar, place.calendar_cache)
    except OSError as error:
        raise StartError(f"{place.root} can't be emptied: {error.strerror}; check its owner") from error
    return place


def _check_same(run: DaemonRun, recorded: SessionBeginning, recording: Path) -> None:
    """Raises StartError where the models are not those of the session."""
    if (run.bundle.sha256, catalogue.sha256()) != (recorded.bundle_sha256, recorded.catalogue_sha256):
        raise StartError(
            f"{recording} was made with bundle {recorded.bundle_sha256[:12]} of version {recorded.version}, and "
            f"{run.bundle.name} is {run.bundle.sha256[:12]} now: put that one back at its place, or use --refill"
        )


def _repeat(
    run: DaemonRun,
    recorded: SessionBeginning,
    player: TapePlayer,
    events: _Recorded,
    clock: EventClock,
    on_progress: Callable[[str], None],
) -> _Outcome:
    """Give an account its inputs."""
    broker = RepeatedBroker(player, has_own_clock=recorded.has_own_clock, replaces=recorded.replaces)
    try:
        account = run.open_account(broker, recorded.account, recorded.cash, recorded.time_scale, player=player)
    except TapeEnds as ends:
        raise FileFormatError("the session ended before its account was open: there is nothing to repeat") from ends
    _restore_entry(run, account, recorded)

    path = run.decision_path(account)
    progress = ReplayProgress(path.tally, account.state.ledger, on_progress, total_events=events.total)
    started_ns = clock.monotonic_ns()

    def checkpoint() -> None:
        run.reporter.flush()
        for _ in run.remember():
            pass
        progress.look((clock.monotonic_ns() - started_ns) / NS_PER_S)

    session = SessionRepeat(
        broker,
        account,
        path,
        run.pipeline,
        on_events=lambda window: clock.advance(int(window["ts_ns"][-1])),
        on_checkpoint=checkpoint,
    )
    parted = ""
    try:
        session.run(events)
    except TapeDiffers as difference:
        parted = str(difference)
    for failure in session.failures:
        run.log.warning("input_failed", reason=failure)
    return _Outcome(account, path.tally, parted, tuple(session.failures))


def _restore_entry(run: DaemonRun, account: TradingAccount, recorded: SessionBeginning) -> None:
    origin = account.state.ledger.origin
    if origin is not None and recorded.entered_on:
        run.memory.entered(origin.decision_id, np.array(recorded.entered_on, np.float32))
