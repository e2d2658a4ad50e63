"""`mia-daemon replay`: recorded data through the same four tasks, as fast as they can process it."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from mia_daemon.brokers.paper import PaperBroker
from mia_daemon.clock import NS_PER_S, EventClock, WallClock, iso_utc
from mia_daemon.config import Mode, Settings, VarPaths
from mia_daemon.daemon.broker_tasks import reconcile
from mia_daemon.daemon.price_files import check_replayed_file, check_replayed_reference, reference_of_file
from mia_daemon.daemon.replay_progress import ReplayProgress
from mia_daemon.daemon.replay_window import WHOLE_FILE, ReplayWindow
from mia_daemon.daemon.run import DaemonRun
from mia_daemon.errors import MiaError, StartError, StateRefused, UsageError
from mia_daemon.features import cache, state_file
from mia_daemon.feed.recording import Recording, is_recording, recording_symbol
from mia_daemon.feed.replay_feed import ReplayFeed, refuse_directory
from mia_daemon.model import memory_file
from mia_daemon.products.instruments import Instrument, instrument
from mia_daemon.products.price_scale import AS_STORED
from mia_daemon.products.product_table import Products
from mia_daemon.records import EventArray
from mia_daemon.risk.latch_counter import LatchCounter
from mia_daemon.trading.assembly import TradingAccount
from mia_daemon.trading.live_trading import Tally, TradingSession

LONGEST_SILENCE_S: Final = 30.0
"""Of each silence in a file so much has the timers that a live feed makes, seconds. After that nothing but the time of
day changes until the next event, and files of thin contracts are mostly silence."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a replay; its fields are the keys of `--json`."""

    events: int
    trades_in: int
    decisions: int
    orders: int
    fills: int
    round_trips: int
    profit: float  # after costs, account currency
    seconds: float
    events_per_s: float
    decisions_sha256: str
    first_ts: str
    last_ts: str
    latches: tuple[dict[str, str], ...]  # still set at the end: code, ts, text
    position: int  # open at the end, contracts, signed
    unrealized: float  # of that, at the touch that would close it, before the costs of closing; account currency
    latches_counted: tuple[dict[str, str | int], ...]  # with --research: code, count, first_ts, text

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return asdict(self)

    def __str__(self) -> str:
        stopped = "".join(
            f"\nentries stopped at {latch['ts']} by the latch {latch['code']}: {latch['text']}; to replay past it, "
            f"loosen or waive that limit in a copy of the configuration (--config), or count it with --research"
            for latch in self.latches
        )
        counted = "".join(
            f"\nnot stopped by the latch {latch['code']}: {latch['count']} times, first at {latch['first_ts']}: "
            f"{latch['text']}"
            for latch in self.latches_counted
        )
        return (
            f"{self.events:,} events from {self.first_ts} to {self.last_ts} in {self.seconds:.2f} s "
            f"({self.events_per_s:,.0f}/s)\n"
            f"{self.decisions:,} decisions, {self.orders} orders, {self.fills} fills, {self.round_trips} round trips, "
            f"profit {self.profit:+.2f}, open position {self.position:+d}, unrealised {self.unrealized:+.2f}\n"
            f"decisions {self.decisions_sha256}{stopped}{counted}"
        )


def replay(
    settings: Settings,
    path: Path,
    paths: VarPaths,
    *,
    depth: Path | None = None,
    reference: Path | None = None,
    symbol: str | None = None,
    window: ReplayWindow = WHOLE_FILE,
    research: bool = False,
    on_progress: Callable[[str], None] = lambda _text: None,
) -> Summary:
    """Run `path` through the four tasks, orders filled by the paper broker; blocks until done.

    Args:
        settings: `instrument.symbol` is replaced by the recorded contract.
        path: a `.scid` file or a recording.
        paths: where to write.
        depth: the `.depth` file that belongs to a `.scid`.
        reference: the `.scid` file of the reference symbol.
        symbol: of the contract, where the file's name does not contain it.
        window: where decisions are made.
        research: latches are counted, and trading goes on.
        on_progress: called with a text before steps that take long, and every few seconds.

    Raises:
        FileFormatError, UsageError, StartError: before anything is written.
    """
    traded = instrument(symbol or recorded_symbol(path, settings.products), settings.products)
    now_ns = WallClock().now_ns()
    warnings = check_replayed_file(settings, path, traded, now_ns)
    reference_scale = AS_STORED
    if reference is not None:
        warnings += check_replayed_reference(settings, reference, now_ns)
        reference_scale = settings.reference_price_scale(reference_of_file(settings, reference))
    for warning in warnings:
        on_progress(f"warning: {warning}")
    clock = EventClock()
    feed = ReplayFeed(
        path,
        clock,
        depth_path=depth,
        reference_path=reference,
        batch_events=settings.feed.batch_events,
        scale=settings.price_scale(traded.symbol),
        reference_scale=reference_scale,
        timers_up_to_s=LONGEST_SILENCE_S,
        to_ns=window.to_ns,
    )
    window.check(path, *feed.span_ns)
    settings = settings.model_copy(
        update={"instrument": settings.instrument.model_copy(update={"symbol": traded.symbol})}
    )
    cache.prepare(on_progress, lambda: clock.monotonic_ns() / NS_PER_S)
    on_progress(f"replaying {len(feed):,} events of {traded.symbol} from {path}{window}")
    recorded = _recorded(path)
    return uvloop.run(
        _replay(settings, traded, feed, paths, clock, recorded, on_progress, window=window, research=research)
    )


def recorded_symbol(path: Path, products: Products | None = None) -> str:
    """The contract of a file: a recording states it, `MNQU21-CME.scid` is named after it.

    Raises:
        FileFormatError: it is a directory without a recording.
        UsageError: the name begins with no contract known here.
    """
    if is_recording(path):
        return recording_symbol(path)
    refuse_directory(path)
    try:
        return instrument(path.stem, products).symbol
    except UsageError:
        raise UsageError(
            f"{path} is not named after a contract: say which one it holds with --symbol, e.g. MNQU21-CME"
        ) from None


def _recorded(path: Path) -> Path | None:
    """Directory in which a recording keeps the state its session began with; None where the file begins later."""
    if not is_recording(path) or Recording(path).first:
        return None
    return path if path.is_dir() else path.parent


def begin_as_recorded(run: DaemonRun, recorded: Path, on_progress: Callable[[str], None]) -> None:
    """Restore features, regime and market memory as the recorded session began; reports what is missing."""
    memory, features = recorded / memory_file.FILE_NAME, recorded / state_file.FILE_NAME
    if memory.exists():
        try:
            run.memory.memory.begin_with(memory_file.read(memory))
        except StartError as error:
            run.log.warning("memory_begins_anew", reason=str(error))
            on_progress(f"{error}; decisions will not be those of the recorded session")
    if not features.exists():
        return
    try:
        state = state_file.read(features)
        run.pipeline.resume(state)
    except StateRefused as refusal:
        run.log.warning("features_begin_anew", reason=str(refusal))
        on_progress(f"{refusal}; the first decisions will not be those of the recorded session")
    else:
        run.inference.resume(state.regime)


async def _replay(
    settings: Settings,
    traded: Instrument,
    feed: ReplayFeed,
    paths: VarPaths,
    clock: EventClock,
    recorded: Path | None,
    on_progress: Callable[[str], None],
    *,
    window: ReplayWindow,
    research: bool,
) -> Summary:
    with DaemonRun(settings, traded, Mode.REPLAY, paths, clock) as run:
        broker = PaperBroker(traded, settings.instrument.trade_account, settings.broker, run.run_id)
        cash = settings.broker.paper_starting_cash
        account = run.open_account(broker, run.beginning(), cash, research=research)

        def advance(events: EventArray) -> None:
            clock.advance(int(events["ts_ns"][-1]))

        if research:
            run.log.warning("research", text="latches that limits would set are counted, and trading goes on")
        if recorded is not None:
            begin_as_recorded(run, recorded, on_progress)
        session = run.session(feed, account, decide_from_ns=window.from_ns, before_events=advance)
        await reconcile(account)
        progress = ReplayProgress(
            session.tally, account.state.ledger, on_progress, total_events=len(feed),
            to_ns=window.to_ns,
        )  # fmt: skip
        started = clock.monotonic_ns()
        sampler = asyncio.create_task(
            _sample(run, session, lambda: progress.look((clock.monotonic_ns() - started) / NS_PER_S))
        )
        how = "feed ended"
        try:
            await session.run()
        except* MiaError as group:
            how = "failed"
            raise group.exceptions[0] from None
        finally:
            sampler.cancel()
            run.checkpoint()
            for _ in run.remember():
                pass
            run.reporter.risk_snapshot()
            run.metrics.sample(session.counters, {})
            run.journal.end_run(account.scope.run_id, session.tally.last_ts_ns, how)
        if late := run.pipeline.late_events:
            on_progress(f"{late:,} events were older than the one before them: they were taken as of its time")
        return summary(run, account, session.tally, (clock.monotonic_ns() - started) / NS_PER_S)


async def _sample(run: DaemonRun, session: TradingSession, on_sample: Callable[[], None]) -> None:
    """Sample metrics once a second, as in a live run; the tasks yield to the event loop between batches."""
    while True:
        await asyncio.sleep(run.settings.ops.sample_every_s)
        run.metrics.sample(session.counters, {})
        run.checkpoint()
        run.files.check()
        on_sample()


def summary(run: DaemonRun, account: TradingAccount, tally: Tally, seconds: float) -> Summary:
    """The result of a replay that took `seconds`."""
    reporter, ledger = run.reporter, account.state.ledger
    account.actors.accounting.mark()
    return Summary(
        events=tally.events,
        trades_in=tally.trades_in,
        decisions=tally.decisions,
        orders=reporter.orders,
        fills=reporter.fills,
        round_trips=reporter.round_trips,
        profit=round(reporter.profit, 2),
        seconds=round(seconds, 3),
        events_per_s=round(tally.events / seconds, 1) if seconds else 0.0,
        decisions_sha256=tally.digest.hexdigest(),
        first_ts=iso_utc(tally.first_ts_ns),
        last_ts=iso_utc(tally.last_ts_ns),
        latches=tuple(
            {"code": latch.code.value, "ts": iso_utc(latch.ts_ns), "text": latch.code.meaning}
            for latch in account.risk.latches
        ),
        position=ledger.position,
        unrealized=round(ledger.unrealized, 2),
        latches_counted=tuple(
            {
                "code": latch.code.value,
                "count": latch.count,
                "first_ts": iso_utc(latch.first_ns),
                "text": latch.code.meaning,
            }
            for latch in (account.risk.counted if isinstance(account.risk, LatchCounter) else ())
        ),
    )
