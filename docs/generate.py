"""Writes the documents that follow from the code, or says which of them no longer do: `make docs`, `--check`."""

import math
import sys
import tomllib
from collections import Counter
from pathlib import Path

from docs import specification
from mia_daemon.dtc import session
from mia_daemon.errors import ExitStatus
from mia_daemon.execution.order_states import mermaid
from mia_daemon.features import catalogue
from mia_daemon.features.kernels.market import MAX_SILENT_S
from mia_daemon.risk import codes, controls
from mia_daemon.simulator import requests

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the code: change it there, then `make docs`. -->\n\n"


def risk() -> str:
    intro = (
        f"{NOTE}# Risk\n\n"
        "Every refusal carries a code and the facts it went by; both are in the log and in the journal. Limits are "
        "set in `[risk]`: each has to be set, or waived by the word, and `mia-daemon check` names what is waived. "
        "Everything fails closed: without a price, with a number that is not finite, with a state that is not "
        "reconciled, nothing is opened.\n\n"
        "Trading is *active*, *reducing* (a limit is latched) or *halted* (stopped on purpose). In every state what "
        "reduces the position passes, unless it is nonsense, and cancels are never asked about. A latch survives "
        "restarts. `mia-daemon resume` lifts those that need no name and says which are left; the others are lifted "
        "one by one, by the command the table names. Who did it is in the journal, by the uid the kernel told.\n\n"
        "A kill cancels whatever could add to the position, first of all, and then latches. The stop and target of a "
        "position that is held stay at the server until it is closed, as `--flatten` or `incidents.on_kill` say: "
        "without them the kill would leave it bare. A daemon that does not answer `mia-daemon kill` within two "
        "seconds is taken for dead: the kill file is written, which it finds when it comes to and which keeps any "
        "other from starting; its orders have to be cancelled in Sierra Chart.\n\n"
    )
    return (
        f"{intro}## Controls\n\nThe identifiers are those of the industry's list (SEC 15c3-5, RTS 6, FIA, CME).\n\n"
        f"{controls.markdown_table()}\n\n## Codes\n\n{codes.markdown_table()}\n\n{retries()}\n{exit_statuses()}\n"
    )


RETRIES = """\
| what | how often | why, and what follows |
|---|---|---|
| an order, a replace | once, never again | It may have arrived: its fate is unknown until the server was asked. A later decision sends a new order. |
| a cancel | 1, 2, 4, … s after it was refused or not answered, until the order has ended | It adds no risk. |
| the closing of a position | until it is flat | Refusals double the pause; the third stops new risk. |
| a query of the server (accounts, symbol, open orders, fills, positions) | three times, 2 and 4 s between | It changes nothing. Afterwards the snapshot has failed and stays due, and nothing is opened. |
| the connection for orders, at the start | three attempts of 2, 4 and 8 s, then without end | Sierra Chart may start later: alerts `server_awaited` and `server_found`, the reason in `status`; nothing is traded meanwhile. |
| a logon that is refused or a certificate that is not accepted, at the start | three attempts; one where the server refuses for good | A person has to change something: exit status 77. |
| a connection that was lost | without end, `dtc.reconnect_first_delay_s` to `dtc.reconnect_max_delay_s` apart | Alerts `link_down`, `prices_link_down`; nothing is opened before orders and position were compared. |
| a price file that is missing or was replaced | without end | Sierra Chart makes it with the first record. |
| a prediction, a probability | never | The next decision makes a new one. One that is not finite: P14. |
| the trading loop | never | A task that fails ends all of them: the daemon stops as `stop.on_stop` says, and the service manager starts it again. |
| a write to the journal | fills and latches with every commit until it succeeds | New risk is halted from the first failure on; cancels and exits still go out. |
"""  # noqa: E501  # rows of a table


def retries() -> str:
    return (
        "## What is tried again\n\nThe specification asks for three tries with 2^attempt seconds between them. What "
        f"must not happen twice is never tried again.\n\n{RETRIES}"
    )


def exit_statuses() -> str:
    rows = [f"| {int(one)} | {one.meaning} | {'yes' if one.restart else 'no'} |" for one in ExitStatus]
    table = "\n".join(["| status | meaning | started again |", "|---|---|---|", *rows])
    return (
        "## Who starts it again\n\nThe daemon never starts itself again. systemd does (`Restart=on-failure`), at most "
        "five times in ten minutes, except after a status that no restart mends (`RestartPreventExitStatus`). Other "
        "commands than the daemon end with 0, 1 or 2. A start that fails leaves the alert `start_failed` below "
        f"`--var`, where that directory is there.\n\n{table}"
    )


def order_states() -> str:
    return (
        f"{NOTE}# The states of an order\n\n"
        "The transition table in `mia_daemon/execution/order_states.py`, drawn. What is not drawn changes nothing: a "
        "message received twice, or late, finds its order where it already is. An order leaves UNKNOWN by evidence "
        "only.\n\n"
        f"```mermaid\n{mermaid().strip()}\n```\n"
    )


def dtc_session() -> str:
    rows = [
        f"| {state.value} | {event.value} | {rule.state.value} | {rule.action.replace('_', ' ')} |"
        for state, rules in session.TABLE.items()
        for event, rule in rules.items()
        if rule != session.Rule(state)
    ]
    table = "\n".join(["| state | event | next state | action |", "|---|---|---|---|", *rows])
    return (
        f"{NOTE}# A DTC session\n\nThe transition table in `mia_daemon/dtc/session.py`. What is not listed "
        f"changes nothing.\n\n{table}\n"
    )


def features() -> str:
    def row(f: catalogue.Feature) -> str:
        formula = f.formula.replace("|", "\\|")
        ends = " … ".join("" if math.isinf(end) else f"{end:g}" for end in (f.low, f.high)).strip()
        warmup = " + ".join(filter(None, (_duration(f.warmup_s), f"{f.warmup_days} d" if f.warmup_days else "")))
        inputs = catalogue.inputs_text(f.inputs).replace("+", ", ")
        cells = (
            f.index,
            f"`{f.name}`",
            f.unit,
            f.scale.value,
            "" if ends == "…" else ends,
            inputs,
            f.horizon,
            warmup,
            f"{f.neutral:g}",
        )
        return "| " + " | ".join(map(str, (*cells, formula, f.source))) + " |"

    intro = (
        f"{NOTE}# The {catalogue.COUNT} features\n\nCatalogue {catalogue.sha256()[:16]}; a model bundle carries the "
        "whole hash and is refused where it differs. s is the aggressor's side, v the size, m the mid, qb and qa the "
        "sizes at the touch.\n\n"
        "*Range* is what no value leaves, empty where the formula has no bound. *Neutral* is the value while an input "
        "is missing. *Warm-up* is how long what came before still matters: trading time, in which a minute without a "
        "trade does not count, and trading days that have to open (d), the present one included. Values before it are "
        "those of a shorter history, not wrong ones; `features.warmup_s` says how long the daemon waits before it "
        "trades, and a bundle is trained on features that warmed up as long.\n\n"
        "*Over products* is what a value means in another product (docs/products.md), by its unit. *The same*: a "
        "share, a ratio, an indicator of a fixed range, multiples of the average true range. *Ticks*: the same where a "
        "tick is as large beside what prices move. *Relative* to the price: larger in a product that moves more. "
        "*Points*: comparable within one product only. *Activity*: larger in a product that trades more. Of the "
        f"{catalogue.COUNT}: {_scale_counts()}. A model is trained on one product; on another its inputs are counted "
        "against the training's ranges (`model.max_out_of_range_share`).\n\n"
        "The clock's features follow the product's sessions and regular hours, but for `days_to_roll` and "
        "`days_to_opex`, which count to the dates of equity index futures, and 17:00-02:00 of `ph_asia` and "
        "`ph_europe`, which count from the open of the session.\n\n"
        "`mia-daemon features` prints this list, `mia-daemon features NAME` one of them, and `mia-daemon features "
        "verify FILE` looks on your own data whether each depends on the future, on how its input is cut, on a restart "
        "or on what came before its warm-up, and whether it keeps to its range.\n\n"
        "*Fitted* constants are in `constants.json` of the model bundle, and so in its hash: `large_trade`, "
        "`level_weights` and `micro_adjustment`. What a bundle does not bring has the default that the formula names. "
        "The baseline that ships is fitted to the simulated market.\n\n"
        "Prices of zero and below are prices. Where a formula has a logarithm of the mid, the feature is neutral while "
        "the mid is not positive, and its window is empty afterwards; a bar with such a price is left out. After a "
        f"silence of more than {MAX_SILENT_S // 3600} hours the touch and the last trade are unknown until they come "
        "again, and windows are empty; closed bars (`ta`, `er_*`, `parkinson_*`, `gk_*`) and what is of the trading "
        "day go on.\n"
    )
    parts = [intro]
    for family in catalogue.FAMILIES:
        rows = [row(f) for f in catalogue.FEATURES if f.family == family]
        names = (
            "#",
            "name",
            "unit",
            "over products",
            "range",
            "inputs",
            "horizon",
            "warm-up",
            "neutral",
            "formula",
            "source",
        )
        head = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        parts.append("\n".join([f"## {family} ({len(rows)})\n", *head, *rows, ""]))
    return "\n".join(parts)


def _scale_counts() -> str:
    counts = Counter(feature.scale for feature in catalogue.FEATURES)
    return ", ".join(f"{scale.value} {counts[scale]}" for scale in catalogue.Scale)


def _duration(seconds: int) -> str:
    """`5 min`, `2.5 h`; empty for nothing."""
    if not seconds:
        return ""
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:.3g} h"


def simulator() -> str:
    return _with_part("simulator.md", "requests", requests.markdown_table())


def architecture() -> str:
    return _with_part("architecture.md", "layers", f"```\n{layers()}\n```")


def layers() -> str:
    """The layers that `make check` enforces, top first, a line each."""
    settings = tomllib.loads(_read(HERE.parent / "pyproject.toml"))["tool"]["importlinter"]
    (contract,) = (one for one in settings["contracts"] if one["type"] == "layers" and "containers" in one)
    return "\n".join(contract["layers"])


def _with_part(page: str, name: str, text: str) -> str:
    """A page written by hand, with `text` between its comments `<!-- name: ... -->` and `<!-- end of name -->`."""
    before, begin, rest = _read(HERE / page).partition(f"<!-- {name}: ")
    comment, _, old = rest.partition("-->\n")
    _, end, after = old.partition(f"<!-- end of {name} -->")
    return f"{before}{begin}{comment}-->\n{text}\n{end}{after}"


DOCUMENTS = {
    "risk.md": risk,
    "order_states.md": order_states,
    "dtc_session.md": dtc_session,
    "features.md": features,
    "simulator.md": simulator,
    "architecture.md": architecture,
}


def main() -> int:
    """Write all, or with `--check` only compare and look at the specification; 1 when one has fallen behind."""
    behind = [name for name, text in DOCUMENTS.items() if _read(HERE / name) != text()]
    if "--check" in sys.argv:
        for name in behind:
            print(f"docs/{name} has fallen behind the code: run `make docs`", file=sys.stderr)
        untrue = list(specification.findings(_read(HERE / specification.PAGE), HERE.parent))
        for finding in untrue:
            print(finding, file=sys.stderr)
        return 1 if behind or untrue else 0
    for name in behind:
        (HERE / name).write_text(DOCUMENTS[name](), encoding="utf-8")
        print(f"docs/{name} written")
    return 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
