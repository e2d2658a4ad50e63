"""The plan of one seed: the venue and its habits, the daemon's configuration, the server's faults, the incidents."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from fault_simulation.habits import names_of
from mia_daemon import config
from mia_daemon.config import RiskSettings, Settings

PORT = 11099
LASTS_S = (35.0, 70.0)
UNLIMITED = 1_000_000

_UNLIMITED: dict[str, Any] = {  # every limit, set so that it has no effect
    name: 0.0 if field.annotation is float else "waived"
    for name, field in RiskSettings.model_fields.items()
    if field.is_required()
}


@dataclass(frozen=True, slots=True)
class Incident:
    """Something happens at loop time `at_s`: a method of Incidents, `what`, is called with `how`."""

    at_s: float
    what: str
    how: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is not left to the seed.

    Attributes:
        venue: 1 or 2; 0: the first for even seeds, the second for odd ones.
        habits: of the second venue; None: drawn.
        undisturbed: there are no incidents, and it lasts half as long.
    """

    venue: int = 0
    habits: tuple[str, ...] | None = None
    undisturbed: bool = False


AS_DRAWN = Wanted()


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """All that is decided before a simulation begins.

    Attributes:
        habits: names of the second venue's habits; None: it is the first venue.
        shuffle: share of the steps taken out of turn, as far as that is legal.
        split: share of the client's writes that arrive in pieces.
        lasts_s: loop time after which all faults end and the final checks are made.
    """

    seed: int
    habits: tuple[str, ...] | None
    settings: Settings
    incidents: tuple[Incident, ...]
    shuffle: float
    split: float
    lasts_s: float


def plan_of(seed: int, wanted: Wanted = AS_DRAWN) -> SimulationPlan:
    """The plan drawn from `seed`, as far as it is left to it."""
    rng = Random(f"plan/{seed}")  # as everything here: the same for the same seed
    settings = config.parse(_document(seed, rng), f"seed {seed}", environ={})
    lasts_s = rng.uniform(*LASTS_S)
    incidents = sorted(_incidents(rng, lasts_s), key=lambda incident: incident.at_s)
    return SimulationPlan(
        seed,
        _habits(seed, wanted),
        settings,
        () if wanted.undisturbed else tuple(incidents),
        rng.choice((0.0, 0.1, 0.5)),
        rng.choice((0.0, 0.05, 0.5)),
        lasts_s / 2 if wanted.undisturbed else lasts_s,
    )


def _habits(seed: int, wanted: Wanted) -> tuple[str, ...] | None:
    if (wanted.venue or 1 + seed % 2) == 1:
        return None
    return names_of(Random(f"habits/{seed}")) if wanted.habits is None else wanted.habits


def _document(seed: int, rng: Random) -> dict[str, Any]:
    contracts = rng.choice((1, 2, 5, 20, 60))  # the larger ones fill in parts
    slippage = rng.choice((0, 0, 1, 3))
    return {
        "feed": {"source": "dtc", "max_event_age_s": 0},
        "features": {"decision_interval_s": rng.choice((0.2, 0.5, 1.0)), "warmup_s": 0.0},
        "model": {"max_out_of_range_share": 1.0, "max_inference_ms": 1e6},
        "decision": {
            "max_position": contracts,
            "enter_above": 0.2,
            "exit_below": 0.1,
            "min_probability": 0.0,
            "min_hold_s": 0.0,
            "max_hold_s": rng.choice((3.0, 8.0, 60.0)),
            "stop_ticks": rng.choice((1, 2, 4, 12)),
            "target_ticks": (slippage or 1) + rng.choice((1, 2, 4, 12)),
            "max_slippage_ticks": slippage,
            "defensive_blocks_above": 1.0,
        },
        "risk": _UNLIMITED
        | {
            "max_order_contracts": contracts,
            "max_position_contracts": contracts,
            "max_daily_loss": rng.choice((1e9, 1e9, 1e9, 400.0 * contracts)),
            "max_orders_per_minute": rng.choice((UNLIMITED, UNLIMITED, 12)),
        },
        "execution": {
            "policy": rng.choice(("marketable_limit", "marketable_limit", "limit_at_touch", "market_with_protection")),
            "protection_ticks": slippage or 1,
            "max_chase_ticks": slippage or 1,
            "chase_after_s": 0.5,
            "unfilled_after_s": 1.0,
            "unfilled": rng.choice(("give_up", "cross")),
        },
        "windows": {"no_entry_before_close_s": 0.0},
        "broker": {
            "ack_timeout_s": rng.choice((1.5, 3.0)),
            "reconcile_every_s": rng.choice((3.0, 8.0)),
            "entry_timeout_s": rng.choice((1.5, 5.0)),
        },
        "dtc": {
            "port": PORT,
            "encoding": rng.choice(("binary", "binary", "binary", "binary_vls", "json", "json_compact")),
            "heartbeat_interval_s": 5,
            "connect_timeout_s": 3.0,
            "request_timeout_s": 3.0,
            "reconnect_first_delay_s": 0.2,
            "reconnect_max_delay_s": 3.0,
        },
        "simulator": {
            "seed": seed,
            "speed": 1.0,
            "events_per_s": rng.choice((6.0, 12.0, 25.0)),
            "reference": False,  # not used
            "new_order_id_on_replace": rng.random() < 0.5,
            "faults": {"seed": seed, **_order_faults(rng), **_line_faults(rng)},
        },
    }


def _order_faults(rng: Random) -> dict[str, Any]:
    if rng.random() < 0.4:
        return {}
    shares = {
        "reject_share": 0.15,
        "duplicate_share": 0.3,
        "reorder_share": 0.3,
        "lose_share": 0.3,
        "late_fill_share": 0.6,
    }
    faults: dict[str, Any] = {name: rng.uniform(0.0, most) for name, most in shares.items() if rng.random() < 0.5}
    faults["late_ms"] = rng.choice((100.0, 500.0, 1500.0))
    if rng.random() < 0.2:
        faults["clock_skew_s"] = rng.uniform(-1.5, 1.5)
    return faults


def _line_faults(rng: Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {}
    faults: dict[str, Any] = {"connections": rng.randint(0, 3), "split": rng.random() < 0.5}
    if rng.random() < 0.5:
        faults["delay_ms"] = rng.choice((2.0, 30.0, 200.0))
    if rng.random() < 0.3:
        faults["coalesce_ms"] = rng.choice((5.0, 50.0))
    if rng.random() < 0.2:
        faults |= {"stall_every_s": 7.0, "stall_s": rng.uniform(0.5, 3.0)}
    if rng.random() < 0.5:
        faults[rng.choice(("reset_after_s", "mute_after_s", "half_open_after_s"))] = rng.uniform(1.0, 25.0)
        faults["connections"] = faults["connections"] or 2
    return faults


# What may happen: how many times at most, with which chance at all, and how it is drawn.
_LIKELY = {
    "kill": (5, 0.7),
    "restart": (2, 0.2),
    "reset": (3, 0.4),
    "cut": (1, 0.25),
    "refuse": (2, 0.2),
    "slow": (2, 0.25),
    "freeze": (3, 0.3),
    "disk": (2, 0.25),
    "silence": (2, 0.2),
    "halt": (2, 0.3),
    "flatten": (2, 0.25),
    "cancel": (2, 0.2),
    "pull": (1, 0.1),
    "by_hand": (3, 0.15),
    "crash_server": (1, 0.15),
    "rest": (1, 0.5),
    "set_clock": (2, 0.15),
}


def _incidents(rng: Random, lasts_s: float) -> Iterator[Incident]:
    for what, (most, chance) in _LIKELY.items():
        if rng.random() < chance:
            for _ in range(rng.randint(1, most)):
                yield Incident(rng.uniform(0.0, lasts_s), what, _how(what, rng))


def _how(what: str, rng: Random) -> Any:  # noqa: C901, PLR0911  one table, one row per fault
    match what:
        case "kill":
            return round(80.0 ** rng.random())  # places from now, few more often than many
        case "restart":
            return rng.random() < 0.5
        case "refuse" | "slow":
            return rng.uniform(0.5, 8.0)
        case "freeze" | "silence":
            return rng.uniform(0.2, 4.0)
        case "disk":
            return rng.choice(("full", "broken", "busy", "slow")), rng.uniform(1.0, 15.0)
        case "halt":
            return rng.uniform(2.0, 12.0)
        case "pull":
            return rng.random() < 0.5, rng.uniform(2.0, 12.0)
        case "by_hand":
            return rng.choice(("buy", "sell", "flatten", "bid", "offer", "cancel")), rng.choice((0.25, 1.0))
        case "crash_server":
            return rng.uniform(0.2, 5.0)
        case "set_clock":
            return rng.choice((-1.0, 1.0)) * 10.0 ** rng.uniform(-1.0, 4.0)
    return None
