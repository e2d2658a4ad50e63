"""The settings that fit the server that was probed, as TOML and as overrides of a configuration."""

import json
from typing import Any

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.dtc import messages as dtc
from mia_daemon.probe.evidence import Evidence
from mia_daemon.probe.findings import reported_accounts, reported_symbols
from mia_daemon.probe.order_findings import links_brackets

Overrides = dict[str, Any]
"""By `section.key`, as `config.load` takes them."""


def fitting_settings(found: Evidence, scope: ServerScope) -> Overrides:
    """What to set; keys about which the probe found nothing are left out."""
    settings: Overrides = {
        "instrument.trade_account": scope.account,
        "broker.kind": "dtc",
    }
    if scope.trade_symbol != scope.instrument.symbol:
        settings["instrument.trade_symbol"] = scope.trade_symbol
    if isinstance(found.prices, dtc.MarketDataSnapshot):
        settings["feed.source"] = "dtc"
    elif isinstance(found.prices, dtc.MarketDataReject):
        settings["feed.source"] = "scid"
    if found.bracket or not found.logon.BracketOrdersSupported:
        settings["broker.brackets"] = "server" if links_brackets(found) else "client"
    symbols = reported_symbols(found) | scope.symbols
    accounts = reported_accounts(found) | scope.accounts
    settings["broker.symbol_spellings"] = sorted(symbols - {"", scope.instrument.symbol, scope.trade_symbol})
    settings["broker.account_spellings"] = sorted(accounts - {"", scope.account})
    return settings


def as_toml(settings: Overrides, reasons: str) -> str:
    """The settings as a piece of a configuration file, under a comment."""
    lines = [f"# {line}" for line in reasons.splitlines()]
    for section in dict.fromkeys(key.split(".")[0] for key in settings):
        lines += ["", f"[{section}]"]
        for key, value in settings.items():
            table, name = key.split(".")
            if table == section:
                lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
