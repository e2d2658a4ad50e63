"""Settings: one frozen object, read once, from TOML.

Every name carries its unit. An unknown key is refused with the nearest known one. Secrets come from the environment
(`MIA_DTC_USERNAME`, `MIA_DTC_PASSWORD`) or from `$CREDENTIALS_DIRECTORY` (systemd), never from the file, and never
appear in a log or in the hash's input.
"""

import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from mia_daemon.credentials import refuse_secrets, secrets_in
from mia_daemon.errors import ConfigError, UsageError
from mia_daemon.printable import is_distinct
from mia_daemon.product_settings import ProductSettings, Root
from mia_daemon.products.instruments import instrument
from mia_daemon.products.price_scale import PriceScale
from mia_daemon.products.product_table import Products, shipped
from mia_daemon.setting_errors import explain, setting_of
from mia_daemon.setting_types import (
    AbortS,
    Account,
    Contracts,
    ContractsLimit,
    Count,
    CountLimit,
    CountOrZero,
    DaysLimit,
    DelayMs,
    Factor,
    GigabytesLimit,
    IntervalLimit,
    IntervalS,
    LimitMs,
    LimitMsLimit,
    LongLimit,
    LongS,
    LongSpanS,
    LossLimit,
    Money,
    MoneyLimit,
    Multiplier,
    PerDayLimit,
    Port,
    Price,
    Section,
    Seed,
    Sha256,
    Share,
    ShareLimit,
    SkewS,
    SpanS,
    StallS,
    Symbol,
    SymbolOrNone,
    Ticks,
    TicksLimit,
    TicksOrZero,
    TimeoutS,
    TimeZone,
)
from mia_daemon.user_file import read_toml


class Mode(StrEnum):
    PAPER = "paper"
    LIVE = "live"
    REPLAY = "replay"


def _only_symbol(path: Path) -> Path:
    strange = re.search(r"\{(?!symbol\})[^{}]*\}", str(path))
    if strange:
        raise ValueError(f"{strange[0]} stands for nothing here; {{symbol}} stands for the contract")
    return path


ScidPath = Annotated[Path, AfterValidator(_only_symbol)]


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class InstrumentSettings(Section):
    """What is traded."""

    symbol: Symbol = "ESZ26_FUT_CME"
    root: Symbol | None = None  # of a product: the contract month follows from the date, instead of from `symbol`
    symbol_pattern: str = "{root}{month}{year}_FUT_CME"
    roll_days_before_expiry: Annotated[int, Field(ge=0, le=60)] | None = None  # None: as the product's `roll` says
    roll_with_position: bool = False
    trade_symbol: str | None = None  # in orders, where the server spells it otherwise; {root}, {month}, {year}
    trade_account: Account = "Sim1"

    @model_validator(mode="after")
    def _symbol_or_root(self) -> "InstrumentSettings":
        if self.root is not None and "symbol" in self.model_fields_set:
            raise ValueError("symbol names one contract, root one after the other: leave one of them out")
        if any(part not in self.symbol_pattern for part in ("{root}", "{month}", "{year}")):
            raise ValueError("symbol_pattern needs {root}, {month} and {year}, as in {root}{month}{year}_FUT_CME")
        return self


class FeedSettings(Section):
    """Where market events come from."""

    source: Literal["simulator", "dtc", "scid"] = "simulator"
    scid_path: ScidPath | None = None  # {symbol} stands for instrument.symbol
    depth_directory: Path | None = None  # of the .depth files; None: trades only
    price_multiplier: Factor | None = None  # of the traded symbol's prices in Sierra Chart's files; None: the product's
    dtc_host: str | None = None  # source = "dtc": of a server for prices alone; None: dtc.host
    dtc_port: Port | None = None  # None: dtc.port
    watch: Literal["auto", "poll"] = "auto"  # auto: by inotify where the system announces changes
    poll_interval_ms: LimitMs = 20.0
    max_event_age_s: SpanS = 10.0
    silent_after_s: SpanS = 60.0  # without a price while the sessions traded are open there is an alert; 0: never
    batch_events: Count = 4096
    queue_batches: Count = 256

    def scid_file(self, symbol: str) -> Path:
        """The `.scid` file of a contract."""
        assert self.scid_path is not None
        return Path(str(self.scid_path).replace("{symbol}", symbol))

    @model_validator(mode="after")
    def _scid_needs_a_path(self) -> "FeedSettings":
        if self.source == "scid" and self.scid_path is None:
            raise ValueError('source = "scid" needs scid_path: the file Sierra Chart writes for the symbol')
        return self

    @model_validator(mode="after")
    def _own_server_needs_dtc(self) -> "FeedSettings":
        if self.source != "dtc" and (self.dtc_host, self.dtc_port) != (None, None):
            raise ValueError('dtc_host and dtc_port have a meaning only with source = "dtc"')
        return self


class ReferenceSettings(Section):
    """A second symbol beside the traded one, for the features that compare both; never traded."""

    symbol: SymbolOrNone = ""  # "": none
    root: Symbol | None = None  # as instrument.root, with its symbol_pattern and its roll
    scid_path: ScidPath | None = None  # source = "scid"; {symbol} stands for the contract
    price_multiplier: Factor | None = None  # of its file's prices; None: feed's if that is set, else its product's

    @property
    def named(self) -> bool:
        """Whether there is one."""
        return bool(self.symbol or self.root)

    @property
    def scid_file(self) -> Path | None:
        """The `.scid` file of its contract."""
        return None if self.scid_path is None else Path(str(self.scid_path).replace("{symbol}", self.symbol))

    @model_validator(mode="after")
    def _one_symbol(self) -> "ReferenceSettings":
        if self.root is not None and self.symbol:
            raise ValueError("symbol names one contract, root one after the other: leave one of them out")
        if self.scid_path is not None and not self.named:
            raise ValueError("scid_path needs symbol or root: whose prices the file holds")
        if self.root is not None and self.scid_path is not None and "{symbol}" not in str(self.scid_path):
            raise ValueError("with root, scid_path needs {symbol} where the contract stands in its name")
        return self


class DtcSettings(Section):
    """How to reach Sierra Chart's DTC server, for prices, for orders or for both."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port = 11099
    history_port: Port = 11098  # of historical price data; used by `fetch`
    encoding: Literal["binary", "binary_vls", "json", "json_compact"] = "binary"
    encoding_is_preset: bool = False
    username: SecretStr = SecretStr("")
    password: SecretStr = SecretStr("")
    client_name: Annotated[str, Field(min_length=1, max_length=20)] = "mia-daemon"
    heartbeat_interval_s: Annotated[int, Field(ge=5, le=60)] = 10
    connect_timeout_s: TimeoutS = 10.0
    request_timeout_s: TimeoutS = 10.0
    reconnect_first_delay_s: IntervalS = 0.5
    reconnect_max_delay_s: IntervalS = 30.0
    tls: Literal["auto", "off", "verify", "pinned"] = "auto"
    tls_ca_file: Path | None = None  # verify: who is trusted; None: the system's authorities
    tls_server_name: str = ""  # verify: the name in the certificate where it is not `host`
    tls_fingerprint_sha256: str = ""  # pinned: of the server's certificate

    @property
    def encrypted(self) -> bool:
        return self.tls in {"verify", "pinned"}

    @property
    def has_credentials(self) -> bool:
        return bool(self.username.get_secret_value() or self.password.get_secret_value())

    @field_validator("tls_fingerprint_sha256")
    @classmethod
    def _fingerprint_in_one_spelling(cls, text: str) -> str:
        digits = text.replace(":", "").replace(" ", "").lower()
        if digits and not re.fullmatch("[0-9a-f]{64}", digits):
            raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits, with or without colons")
        return digits

    @model_validator(mode="after")
    def _tls_is_what_it_seems(self) -> "DtcSettings":
        if (self.tls == "pinned") != bool(self.tls_fingerprint_sha256):
            raise ValueError('tls = "pinned" and tls_fingerprint_sha256 go together: set both or none')
        if self.tls != "verify" and (self.tls_ca_file or self.tls_server_name):
            raise ValueError('tls_ca_file and tls_server_name have a meaning only with tls = "verify"')
        if self.tls == "auto" and self.has_credentials and not is_loopback(self.host):
            raise ValueError(
                f"username and password would travel to {self.host} for anyone on the way to read: "
                'set dtc.tls to "verify" or "pinned", or to "off" to accept that'
            )
        return self


class FaultSettings(Section):
    """What goes wrong at the stand-in on purpose; by default nothing does."""

    seed: Seed = 1
    # The line, on the wall clock; times count from a client's logon.
    connections: CountOrZero = 0  # only the first so many are hit; 0: all
    split: bool = False
    coalesce_ms: DelayMs = 0.0
    delay_ms: DelayMs = 0.0
    stall_every_s: LongSpanS = 0.0
    stall_s: LongSpanS = 0.0
    mute: bool = False
    mute_after_s: LongSpanS | None = None
    half_open_after_s: LongSpanS | None = None
    reset_after_s: LongSpanS | None = None
    # Orders, in exchange time.
    reject_share: Share = 0.0
    duplicate_share: Share = 0.0
    reorder_share: Share = 0.0
    lose_share: Share = 0.0
    late_fill_share: Share = 0.0
    late_ms: DelayMs = 500.0  # by which a late fill is late, and a reordered update at most
    clock_skew_s: SkewS = 0.0
    # Habits of Sierra Chart that users report.
    ignore_incomplete_cancels: bool = False
    list_closed_positions: bool = False
    refuse_balances: bool = False

    @model_validator(mode="after")
    def _stalls_end(self) -> "FaultSettings":
        if bool(self.stall_every_s) != bool(self.stall_s) or self.stall_s > self.stall_every_s:
            raise ValueError("stall_every_s and stall_s go together, and a stall ends before the next begins")
        return self

    @property
    def of_the_line(self) -> bool:
        """Whether connections are hit."""
        after = (self.mute_after_s, self.half_open_after_s, self.reset_after_s)
        now = self.split or self.mute or self.coalesce_ms or self.delay_ms or self.stall_s
        return bool(now) or any(value is not None for value in after)


class SimulatorSettings(Section):
    """The embedded Sierra Chart stand-in."""

    seed: Seed = 7
    speed: Factor = 20.0
    events_per_s: Factor = 40.0
    start_price: Price | None = None  # None: the product's simulated_price
    starting_cash: Money = 100_000.0
    start_date: date | None = None  # of a fresh simulation; the default follows from the symbol's expiry
    intraday_shape: bool = False  # activity by time of day; off, a night is as busy as a morning
    encoding: Literal["auto", "binary", "binary_vls", "json", "json_compact"] = "auto"  # auto: what a client asks for
    generation: Literal[1, 2] = 1  # of DTC market data messages: 2 is the 2026-08 header's (109, 147, 148)
    compact_trades_and_quotes: bool = (
        False  # generation 1: 112 and 117 for clients that ask for no others, not 107 and 108
    )
    new_order_id_on_replace: bool = False  # a replaced order gets a new ServerOrderID
    file_flush_ms: DelayMs = 100.0  # how long the files of --write-scid may hold records back
    reference: bool = True  # a second market, not traded: NQ beside ES, ES beside NQ
    symbols: tuple[Symbol, ...] = ()  # that can be traded beside instrument.symbol
    accounts: tuple[Account, ...] = ()  # trade accounts beside instrument.trade_account
    display_multiplier: Multiplier = 1.0  # DisplayPriceMultiplier: prices in messages are displayed ones divided by it
    policy: Literal["open", "sierra"] = "open"  # sierra: market data is refused, as Sierra Chart does for CME's
    faults: FaultSettings = FaultSettings()


class FeatureSettings(Section):
    """The feature window."""

    decision_interval_s: IntervalS = 5.0
    warmup_s: LongSpanS = 300.0
    state_every_s: SpanS = 60.0  # 0: the state is neither saved nor used
    state_max_gap_s: LongSpanS = 900.0
    cache_dir: Path | None = None  # of compiled kernels; default: $NUMBA_CACHE_DIR, else ~/.cache/mia-daemon


class ModelSettings(Section):
    """The model bundle."""

    bundle: Path | None = None  # the default is the baseline bundle that ships with the package
    approved_bundles: tuple[Sha256, ...] = ()  # the only ones live trades on
    max_out_of_range_share: Share = 0.5
    max_inference_ms: LimitMs = 250.0
    drift_window_s: LongS = 82_800.0
    drift_psi_above: Factor = 0.25
    drift_ks_above: Share = 0.2


class DecisionSettings(Section):
    """From signal to target position."""

    max_position: Contracts = 1  # contracts the policy's ±1 maps to
    enter_above: Share = 0.35  # |action| that opens a position
    exit_below: Share = 0.10  # |action| under which it is closed (hysteresis)
    min_probability: Share = 0.5
    min_hold_s: LongSpanS = 20.0
    max_hold_s: LongS = 1800.0
    flat_without_prediction_s: LongSpanS = 60.0  # a position is closed when predictions are not finite for so long
    stop_ticks: Ticks = 16
    target_ticks: Ticks = 24
    max_slippage_ticks: TicksOrZero = 4
    defensive_blocks_above: Share = 0.6

    @model_validator(mode="after")
    def _exit_below_enter(self) -> "DecisionSettings":
        if self.exit_below > self.enter_above:
            raise ValueError("exit_below must not exceed enter_above, or every entry would be closed at once")
        return self

    @model_validator(mode="after")
    def _holds_in_order(self) -> "DecisionSettings":
        if self.min_hold_s > self.max_hold_s:
            raise ValueError("min_hold_s must not exceed max_hold_s: a position has to be left by then")
        return self


class ExecutionSettings(Section):
    """How an entry is worked; exits always take the market."""

    policy: Literal["marketable_limit", "limit_at_touch", "market_with_protection"] = "marketable_limit"
    protection_ticks: Ticks = 12  # market_with_protection: the limit is this far beyond the touch
    chase_after_s: IntervalS = 2.0  # limit_at_touch: how often it is looked whether the touch has moved away
    max_chases: CountOrZero = 3
    max_chase_ticks: Ticks = 4  # from its first price, crossing included
    unfilled_after_s: IntervalS = 6.0
    unfilled: Literal["give_up", "cross"] = "give_up"  # then, or when it may follow no further


class RiskSettings(Section):
    """Limits. All are required in the file, as a number or as "waived": a limit is never absent by accident."""

    max_order_contracts: ContractsLimit
    max_order_notional: MoneyLimit  # account currency
    max_position_contracts: ContractsLimit
    max_daily_loss: LossLimit  # account currency
    max_drawdown_share: ShareLimit
    max_orders_per_minute: CountLimit
    max_messages_per_second: CountLimit  # orders, replaces and cancels; a bracket is three
    max_messages_per_day: PerDayLimit
    cancel_reserve_share: Share  # of both, for what reduces the position: new risk leaves it alone
    max_executions: CountLimit  # entries until a person looks and says `rearm`
    max_price_age_s: IntervalLimit
    max_price_deviation_ticks: TicksLimit  # of an order's price from the touch
    max_price_jump_ticks: TicksLimit  # between one price and the next
    market_pause_s: SpanS  # without entries after a jump or a gap
    max_clock_skew_s: IntervalLimit  # by which an event may lie in our future
    max_decision_age_ms: LimitMsLimit  # from the deciding event's arrival to the order
    max_fill_slippage_ticks: TicksLimit  # of a fill against its order's price
    max_consecutive_losses: CountLimit
    max_consecutive_rejects: CountLimit
    max_spread_ticks: TicksLimit

    @property
    def waived(self) -> tuple[str, ...]:
        """The limits that the file waives."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is None)


class IncidentSettings(Section):
    """What is done when something went wrong."""

    on_kill: Literal["keep", "flatten"] = "keep"  # by signal, file or watchdog; `mia-daemon kill` says it itself
    on_unprotected: Literal["protect", "flatten"] = "protect"  # a position without a working stop
    on_position_breach: Literal["flatten", "keep"] = "flatten"  # a position beyond the limit, whoever made it


class WindowSettings(Section):
    """When new positions are allowed (exits always are), and by when there must be none."""

    sessions: Literal["regular", "all"] = "all"  # regular: 08:30-15:15 Chicago; all: whenever Globex is open
    no_entry_before_close_s: SpanS = 300.0
    macro_events_csv: Path | None = None
    macro_impact_above: Share = 0.7
    macro_before_s: LongSpanS = 900.0
    macro_after_s: LongSpanS = 900.0
    flat_before_close_s: IntervalLimit = 60.0
    flat_before_macro_s: IntervalLimit = 60.0
    flat_before_roll_s: LongLimit = 300.0  # before the contract's last session closes, or it expires


class BrokerSettings(Section):
    """Who takes the orders."""

    kind: Literal["auto", "paper", "dtc"] = "auto"  # auto: dtc where the feed is dtc or simulator, else paper
    brackets: Literal["server", "client"] = "server"  # client: stop and target are single orders, the pair kept here
    symbol_spellings: tuple[str, ...] = ()  # others in what the server says that mean the symbol
    account_spellings: tuple[str, ...] = ()  # others that mean the account
    statement_time_zone: TimeZone = "UTC"  # of the Trade Activity Log that `reconcile-statement` reads
    paper_feed_latency_ms: DelayMs = 0.0  # from the exchange's event to our decision on it
    paper_entry_latency_ms: DelayMs = 5.0
    paper_response_latency_ms: DelayMs = 5.0
    paper_touch_after_trade: Literal["told", "next"] = "next"  # next: what the trade took is no longer there
    paper_starting_cash: Money = 100_000.0
    ack_timeout_s: TimeoutS = 5.0  # after which an order's fate is unknown and is asked about
    reconcile_every_s: IntervalS = 10.0
    entry_timeout_s: IntervalS = 15.0  # a working entry is cancelled after this


class StopSettings(Section):
    """What happens to an open position when the daemon stops."""

    on_stop: Literal["flatten", "keep"] = "flatten"  # keep: the position and its server-held stop stay
    drain_s: TimeoutS = 4.0


class OpsSettings(Section):
    """Logs, samples, alerts and the control socket."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    timestamp_format: Literal["iso", "spec"] = "iso"  # of CSV files: 2026-11-22T14:00:00.000123Z or 2026-11-22 14:00:00
    sample_every_s: TimeoutS = 1.0
    loop_stall_s: StallS = 10.0  # of a call on the event loop, after which its stack is in var/logs/loop_stalls.txt
    loop_abort_s: AbortS = 60.0  # after which the process ends with status 3
    alert_repeat_after_s: IntervalS = 60.0
    alerts_per_minute: Count = 30
    control_socket: Path | None = None  # the default is var/run/control.sock
    kill_file: Path | None = None  # var/run/kill: while it is there nothing is traded
    arm_file: Path | None = None  # var/run/arm.toml: names the account that live may trade

    @model_validator(mode="after")
    def _reported_before_it_ends(self) -> "OpsSettings":
        if self.loop_stall_s >= self.loop_abort_s:
            raise ValueError("loop_stall_s has to be below loop_abort_s, or nothing would be reported before the end")
        return self


class RetentionSettings(Section):
    """What is kept, and for how long; orders, fills, trades, latches and commands are never removed."""

    recordings_days: DaysLimit = 90
    recordings_gb: GigabytesLimit = 20.0
    logs_days: DaysLimit = 60  # of logs that were rotated
    logs_gb: GigabytesLimit = 3.0
    reports_days: DaysLimit = 730
    reports_gb: GigabytesLimit = 1.0
    risk_snapshots_days: DaysLimit = 30
    risk_snapshots_gb: GigabytesLimit = 0.5
    holding_decisions_days: DaysLimit = 120  # of the journal; longer than recordings, whose verification needs them
    features_days: DaysLimit = 365  # of the journal
    warn_disk_days: Annotated[int, Field(ge=0, le=3660)] = 14  # 0: no alert


class Settings(Section):
    """The whole configuration."""

    instrument: InstrumentSettings = InstrumentSettings()
    product: dict[Root, ProductSettings] = Field(default_factory=dict)  # beside those that ship, or instead of values
    feed: FeedSettings = FeedSettings()
    reference: ReferenceSettings = ReferenceSettings()
    dtc: DtcSettings = DtcSettings()
    simulator: SimulatorSettings = SimulatorSettings()
    features: FeatureSettings = FeatureSettings()
    model: ModelSettings = ModelSettings()
    decision: DecisionSettings = DecisionSettings()
    execution: ExecutionSettings = ExecutionSettings()
    risk: RiskSettings
    incidents: IncidentSettings = IncidentSettings()
    windows: WindowSettings = WindowSettings()
    broker: BrokerSettings = BrokerSettings()
    stop: StopSettings = StopSettings()
    ops: OpsSettings = OpsSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _products_are_whole(self) -> "Settings":
        try:
            assert self.products
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _the_reference_has_a_source(self) -> "Settings":
        if not self.reference.named:
            return self
        if self.simulated:
            raise ValueError('reference needs feed.source = "dtc" or "scid": the simulator has one of its own')
        if self.feed.source == "scid" and self.reference.scid_path is None:
            raise ValueError("reference.scid_path is missing: the file Sierra Chart writes for the reference symbol")
        if self.reference.root is None and self.reference.symbol == self.instrument.symbol:
            raise ValueError(f"reference.symbol is the traded {self.instrument.symbol}: name another")
        return self

    @model_validator(mode="after")
    def _a_file_for_each_contract(self) -> "Settings":
        path = self.feed.scid_path
        if self.feed.source == "scid" and self.instrument.root is not None and "{symbol}" not in str(path):
            raise ValueError(
                "with instrument.root, feed.scid_path needs {symbol} where the contract stands in its name"
            )
        return self

    @model_validator(mode="after")
    def _names_hold_no_password(self) -> "Settings":
        password = self.dtc.password.get_secret_value()
        chosen = self.instrument
        names = {
            "instrument.trade_account": chosen.trade_account,
            "instrument.symbol": chosen.symbol,
            "instrument.trade_symbol": chosen.trade_symbol or "",
        }
        holds = next((key for key, name in names.items() if password.lower() in name.lower()), None)
        if is_distinct(password) and holds is not None:
            raise ValueError(
                f"MIA_DTC_PASSWORD is a part of {holds}, which is in every log: choose another password at the server"
            )
        return self

    @property
    def products(self) -> Products:
        """The products known: those that ship, with `[product]` laid over them."""
        return shipped().with_tables({root: table.table() for root, table in self.product.items()})

    @property
    def reference_multiplier(self) -> float | None:
        """Of the reference symbol's prices in Sierra Chart's files; None: its product's."""
        # A data service that stores hundredths stores them for all symbols: feed's serves both where it stands alone.
        return self.reference.price_multiplier or self.feed.price_multiplier

    def price_scale(self, symbol: str) -> PriceScale:
        """Of the traded symbol's prices in Sierra Chart's files. Raises UsageError where it is no contract known."""
        return PriceScale.of(instrument(symbol, self.products).product, self.feed.price_multiplier)

    def reference_price_scale(self, symbol: str) -> PriceScale:
        """Of a reference symbol's prices in those files; it may be a contract of a product that is not known."""
        return PriceScale.of(self.products.product_of(symbol), self.reference_multiplier)

    @property
    def simulated(self) -> bool:
        """Prices and orders are the embedded simulator's, which has a time of its own."""
        return self.feed.source == "simulator"

    @property
    def speed(self) -> float:
        """Exchange seconds per second."""
        return self.simulator.speed if self.simulated else 1.0

    @property
    def price_server(self) -> DtcSettings:
        """The DTC server that has the prices. Credentials are for the orders' server and go to no other."""
        host, port = self.feed.dtc_host or self.dtc.host, self.feed.dtc_port or self.dtc.port
        if (host, port) == (self.dtc.host, self.dtc.port):
            return self.dtc
        nobody = {"username": SecretStr(""), "password": SecretStr("")}
        return self.dtc.model_copy(update={"host": host, "port": port, **nobody})

    @model_validator(mode="after")
    def _policy_within_risk(self) -> "Settings":
        limit = self.risk.max_position_contracts
        if limit is not None and self.decision.max_position > limit:
            raise ValueError(
                f"decision.max_position ({self.decision.max_position}) exceeds "
                f"risk.max_position_contracts ({limit}): lower it or raise the limit"
            )
        return self

    @model_validator(mode="after")
    def _entries_fit_their_bracket(self) -> "Settings":
        execution = self.execution
        at_touch = execution.policy == "limit_at_touch"
        name, reach = {
            "marketable_limit": ("decision.max_slippage_ticks", self.decision.max_slippage_ticks),
            "limit_at_touch": ("execution.max_chase_ticks", execution.max_chase_ticks),
            "market_with_protection": ("execution.protection_ticks", execution.protection_ticks),
        }[execution.policy]
        if reach >= self.decision.target_ticks:
            raise ValueError(
                f"{name} ({reach}) reaches decision.target_ticks ({self.decision.target_ticks}): "
                "an entry could fill beyond its own target"
            )
        if at_touch and execution.unfilled_after_s >= self.broker.entry_timeout_s:
            raise ValueError(
                f"execution.unfilled_after_s ({execution.unfilled_after_s:g}) has to be below "
                f"broker.entry_timeout_s ({self.broker.entry_timeout_s:g}), when every entry is cancelled"
            )
        return self

    def effective(self) -> dict[str, Any]:
        """Every value in force, secrets redacted, ready for JSON."""
        return self.model_dump(mode="json")

    def sha256(self) -> str:
        """Hash of the effective configuration, without secrets."""
        text = json.dumps(self.effective(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the file, lay `overrides` (`{"simulator.speed": 60.0}`) and secrets over it, and check the whole.

    Raises:
        ConfigError: the file is missing, unreadable, not TOML, or refused; the text names the key and what to do.
    """
    document = read_toml(path, "configuration", "name one with --config FILE")
    return parse(document, str(path), overrides, environ)


def parse(
    document: Mapping[str, Any],
    origin: str,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Check a configuration already read; `origin` names it in errors. Raises ConfigError as `load` does."""
    try:
        merged = json.loads(json.dumps(document, default=str))
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"configuration {origin} is refused: {error}") from error
    refuse_secrets(merged, origin)
    for key, value in {**(overrides or {}), **secrets_in(environ)}.items():
        table, name = key.split(".")
        if isinstance(section := merged.setdefault(table, {}), dict):
            section[name] = value
            if key == "instrument.symbol":
                section.pop("root", None)  # a contract that is asked for is meant
    try:
        # As JSON, where being strict leaves paths and dates their text: "1500" and true are no amounts of money.
        return Settings.model_validate_json(json.dumps(merged), strict=True)
    except ValidationError as error:
        options = set(overrides or {})
        if {setting_of(finding) for finding in error.errors()} <= options:
            raise ConfigError(f"an option of the command line is refused: {explain(error, Settings)}") from error
        raise ConfigError(f"configuration {origin} is refused: {explain(error, Settings, options)}") from error


@dataclass(frozen=True, slots=True)
class VarPaths:
    """Where the daemon writes: every place below one directory, named as in the table of files it documents."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "logs" / "live_trading.log"

    @property
    def loop_stalls(self) -> Path:
        return self.root / "logs" / "loop_stalls.txt"

    @property
    def control_socket(self) -> Path:
        return self.root / "run" / "control.sock"

    @property
    def lock(self) -> Path:
        return self.root / "run" / "var.lock"

    @property
    def prune_lock(self) -> Path:
        return self.root / "run" / "prune.lock"

    @property
    def disk_usage(self) -> Path:
        return self.root / "run" / "disk_usage.json"

    @property
    def kill_file(self) -> Path:
        return self.root / "run" / "kill"

    @property
    def arm_file(self) -> Path:
        return self.root / "run" / "arm.toml"

    @property
    def observer_socket(self) -> Path:
        return self.root / "run" / "observer.sock"

    @property
    def simulator(self) -> Path:
        return self.root / "simulator"

    @property
    def simulator_state(self) -> Path:
        return self.simulator / "simulator.db"

    @property
    def features(self) -> Path:
        return self.root / "features"

    @property
    def recordings(self) -> Path:
        return self.root / "recordings"

    @property
    def calendar_cache(self) -> Path:
        return self.root / "cache"

    def features_state(self, mode: Mode, source: str) -> Path:
        return self.features / f"{mode}-{source}.bin"

    def journal(self, mode: Mode) -> Path:
        return self.root / "journal" / f"{mode}.db"
