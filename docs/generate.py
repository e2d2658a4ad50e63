"""Writes the documents that follow from the code, or says which of them no longer do: `make docs`, `--check`."""

import sys
from pathlib import Path

from mia_daemon.dtc import session
from mia_daemon.features import catalogue
from mia_daemon.risk import codes
from mia_daemon.trading import orders

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the code: change it there, then `make docs`. -->\n\n"


def risk() -> str:
    return (
        f"{NOTE}# Why new risk is refused\n\n"
        "Every refusal carries one of these codes and the facts it went by; both are in the log and in the journal. "
        "Cancels are never asked about, and what reduces the position passes in every state. Identifiers such as P3 "
        "are those of the industry's list of controls (SEC 15c3-5, RTS 6, FIA). A code marked *until resume* is "
        "latched: it survives a restart and ends with `mia-daemon resume`.\n\n"
        f"{codes.markdown_table()}\n"
    )


def order_states() -> str:
    return (
        f"{NOTE}# The states of an order\n\n"
        "The transition table in `mia_daemon/trading/orders.py`, drawn. What is not drawn changes nothing: a message "
        "told twice, or late, finds its order where it already is. An order leaves UNKNOWN by evidence only.\n\n"
        f"```mermaid\n{orders.mermaid().strip()}\n```\n"
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
        return f"| {f.index} | `{f.name}` | {f.unit} | {f.horizon} | {f.neutral:g} | {formula} | {f.source} |"

    intro = (
        f"{NOTE}# The {catalogue.COUNT} features\n\nCatalogue {catalogue.sha256()[:16]}; a model bundle carries the "
        "whole hash and is refused where it differs. *Neutral* is the value while an input is missing. s is the "
        "aggressor's side, v the size, m the mid, qb and qa the sizes at the touch.\n"
    )
    parts = [intro]
    for family in dict.fromkeys(f.family for f in catalogue.FEATURES):
        rows = [row(f) for f in catalogue.FEATURES if f.family == family]
        head = ["| # | name | unit | horizon | neutral | formula | source |", "|---|---|---|---|---|---|---|"]
        parts.append("\n".join([f"## {family} ({len(rows)})\n", *head, *rows, ""]))
    return "\n".join(parts)


DOCUMENTS = {"risk.md": risk, "order_states.md": order_states, "dtc_session.md": dtc_session, "features.md": features}


def main() -> int:
    """Write all, or with `--check` only compare; 1 when one has fallen behind."""
    behind = [name for name, text in DOCUMENTS.items() if _read(HERE / name) != text()]
    if "--check" in sys.argv:
        for name in behind:
            print(f"docs/{name} has fallen behind the code: run `make docs`", file=sys.stderr)
        return 1 if behind else 0
    for name in behind:
        (HERE / name).write_text(DOCUMENTS[name](), encoding="utf-8")
        print(f"docs/{name} written")
    return 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
