"""Builds the parts of a daemon from its configuration: the DTC server, the feed, the broker."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from mia_daemon.brokers.base import Broker
from mia_daemon.brokers.paper import PaperBroker
from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.brokers.sierra import SierraBroker
from mia_daemon.clock import NS_PER_S, NS_PER_US
from mia_daemon.config import Settings, VarPaths
from mia_daemon.daemon.feature_keeper import FeatureKeeper
from mia_daemon.daemon.preflight import broker_kind
from mia_daemon.daemon.run import DaemonRun
from mia_daemon.daemon.session_recorder import SessionBeginning, SessionRecorder, recorded_settings
from mia_daemon.features import catalogue
from mia_daemon.features.catalogue import Inputs
from mia_daemon.features.state_file import FeatureState
from mia_daemon.feed.base import Feed
from mia_daemon.feed.dtc_feed import DtcFeed
from mia_daemon.feed.event_checks import EventLimits
from mia_daemon.feed.scid_feed import ScidFeed, newest_scid_ns
from mia_daemon.products.instruments import companion, instrument
from mia_daemon.simulator.embedded import EmbeddedSimulator
from mia_daemon.trading.assembly import TradingAccount

_MORE_THAN_SKEW_S: Final = 1.0
_SLACK_S: Final = 5.0  # where risk.max_clock_skew_s is waived

LinkNoticeHandler = Callable[[str, str, str], None]
"""Called with a server's text message for people: name of the link, the text, the kind of message."""


@contextlib.asynccontextmanager
async def dtc_server(
    run: DaemonRun, config: Path, paths: VarPaths, say: Callable[[str], None]
) -> AsyncIterator[Settings]:
    """Settings with the DTC server to use: the embedded simulator, started here, or the configured one."""
    settings = run.settings
    if not settings.simulated:
        yield settings
        return
    options = (
        f"--config={config}",
        f"--speed={settings.simulator.speed}",
        f"--seed={settings.simulator.seed}",
        f"--state={paths.simulator}",
        f"--symbol={settings.instrument.symbol}",
    )
    simulator = EmbeddedSimulator(options, paths.root / "logs" / "simulator.log")
    port = await simulator.start()
    run.log.info("simulator_started", port=port, speed=settings.simulator.speed, seed=settings.simulator.seed)
    say(
        f"embedded simulator on 127.0.0.1:{port}: {settings.instrument.symbol}, {settings.simulator.speed:g} "
        f"exchange seconds a second, seed {settings.simulator.seed}"
    )
    try:
        yield settings.model_copy(
            update={"dtc": settings.dtc.model_copy(update={"host": "127.0.0.1", "port": port, "tls": "off"})}
        )
    finally:
        await simulator.stop()


def recorded_account(
    run: DaemonRun, broker: Broker, keeper: FeatureKeeper, paths: VarPaths
) -> tuple[TradingAccount, SessionRecorder]:
    """Open the account, and begin the recording of its session."""
    settings = run.settings
    cash = settings.simulator.starting_cash if settings.simulated else settings.broker.paper_starting_cash
    recorder = SessionRecorder(paths.recordings / run.run_id, run.instrument.symbol, run.clock.now_ns(), run.alert)
    keeper.copy_to(recorder.directory)
    run.memory.copy_to(recorder.directory)
    begun = run.beginning()
    account = run.open_account(broker, begun, cash, settings.speed, tape=recorder)
    beginning = SessionBeginning(
        run_id=run.run_id,
        mode=run.mode,
        settings=recorded_settings(settings),
        bundle_sha256=run.bundle.sha256,
        catalogue_sha256=catalogue.sha256(),
        cash=cash,
        time_scale=settings.speed,
        has_own_clock=account.broker.has_own_clock,
        replaces=account.broker.replaces,
        account=begun,
        entered_on=tuple(run.entered_on().tolist()),
    )
    recorder.begin(beginning, settings.windows.macro_events_csv)
    return account, recorder


def feature_keeper(run: DaemonRun, paths: VarPaths) -> FeatureKeeper:
    """The keeper of the features' state for this mode and source."""
    features, source = run.settings.features, run.settings.feed.source
    return FeatureKeeper(
        run.pipeline,
        run.inference,
        paths.features_state(run.mode, source) if features.state_every_s else None,
        None if source == "scid" else features.state_max_gap_s,
        run.bundle.selected,
        run.log,
        run.alert,
        run.clock.now_ns,
    )


def feed(
    run: DaemonRun, settings: Settings, resumed: FeatureState | None, rng: Random, on_notice: LinkNoticeHandler
) -> Feed:
    """The configured feed; it continues after the last event of `resumed`, where the source can.

    `rng` is for the jitter of reconnection.
    """
    if settings.feed.source == "scid":
        return _scid_feed(run, settings, resumed)
    reference = _reference_symbol(settings)
    return DtcFeed(
        settings.price_server,
        run.clock,
        rng,
        run.alert,
        symbol=run.instrument.symbol,
        reference_symbol=reference,
        speed=settings.speed,
        tick_sizes={0: run.instrument.tick_size, 1: settings.reference_price_scale(reference).tick_size},
        limits=event_limits(settings),
        on_notice=partial(on_notice, "prices"),
    )


def event_limits(settings: Settings) -> EventLimits:
    """What the time of an event may be. Beyond the slack, more than what the clock skew allows, it is clamped to it."""
    if settings.simulated:  # it has a time of its own, possibly a faster one
        return EventLimits()
    skew_s = settings.risk.max_clock_skew_s
    slack_s = _SLACK_S if skew_s is None else skew_s + _MORE_THAN_SKEW_S
    return EventLimits(round(slack_s * NS_PER_S), own_time=not settings.feed.max_event_age_s)


def _scid_feed(run: DaemonRun, settings: Settings, resumed: FeatureState | None) -> ScidFeed:
    path = settings.feed.scid_file(run.instrument.symbol)
    since_ns, reference_since_ns = _unread_since(run, path, resumed)
    return ScidFeed(
        path,
        run.clock,
        run.alert,
        since_ns=since_ns,
        depth_directory=settings.feed.depth_directory,
        reference_path=settings.reference.scid_file,
        reference_since_ns=reference_since_ns,
        batch_events=settings.feed.batch_events,
        scale=settings.price_scale(run.instrument.symbol),
        reference_scale=settings.reference_price_scale(settings.reference.symbol),
        limits=event_limits(settings),
        inotify=settings.feed.watch == "auto",
        poll_interval_s=settings.feed.poll_interval_ms / 1e3,
    )


def _unread_since(run: DaemonRun, scid: Path, resumed: FeatureState | None) -> tuple[int, int | None]:
    """Event time at which reading begins, for the traded symbol and, if it differs, for the reference."""
    if resumed is not None:
        reference_ns = resumed.reference_heard_ns
        return resumed.heard_ns + NS_PER_US, reference_ns + NS_PER_US if reference_ns else None
    # The trading day of the file's newest event, which may differ from today: before its first trade, the day before.
    # A record from the future is no reason to begin in the future.
    now_ns = run.clock.now_ns()
    day = run.calendar.row_of(min(newest_scid_ns(scid) or now_ns, now_ns))
    return int(run.calendar.rows[max(day, 0), 0]), None


def _reference_symbol(settings: Settings) -> str:
    """The reference symbol to subscribe over DTC; "" for none."""
    if settings.simulated and settings.simulator.reference:
        return companion(instrument(settings.instrument.symbol, settings.products))
    return settings.reference.symbol


def broker(run: DaemonRun, settings: Settings, rng: Random, on_notice: LinkNoticeHandler) -> Broker:
    """The configured broker. `rng` is for the jitter of reconnection."""
    account = settings.instrument.trade_account
    if broker_kind(settings, run.mode) == "paper":
        return PaperBroker(run.instrument, account, settings.broker, run.run_id)
    return SierraBroker(
        settings.dtc,
        ServerScope.of(settings, run.instrument),
        run.clock,
        rng,
        partial(on_notice, "orders"),
        pairs_by_server=settings.broker.brackets == "server",
    )


def absent_inputs(settings: Settings) -> Inputs:
    """The inputs that the configured feed never delivers."""
    named = settings.reference.named or bool(_reference_symbol(settings))
    trades_only = settings.feed.source == "scid" and settings.feed.depth_directory is None
    return (Inputs(0) if named else Inputs.REFERENCE) | (Inputs.DEPTH | Inputs.SIZES if trades_only else Inputs(0))
