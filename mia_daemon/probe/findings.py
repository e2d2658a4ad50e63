"""What the evidence means: each assumption of the daemon about a server, and whether it holds there."""

from dataclasses import dataclass
from enum import StrEnum

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.dtc import messages as dtc
from mia_daemon.probe.evidence import Answer, Evidence
from mia_daemon.products.ticks import nearest_decimal


class Verdict(StrEnum):
    HOLDS = "holds"
    DIFFERS = "differs"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """One assumption.

    Attributes:
        code: stable name, for scripts.
        text: what was seen, and where it differs what that means for the daemon.
    """

    code: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<9} {self.code:<22} {self.text}"


def holds(code: str, text: str) -> Finding:
    return Finding(code, Verdict.HOLDS, text)


def differs(code: str, text: str) -> Finding:
    return Finding(code, Verdict.DIFFERS, text)


def unknown(code: str, text: str) -> Finding:
    return Finding(code, Verdict.UNKNOWN, text)


def either(code: str, *, true: bool, text: str, otherwise: str) -> Finding:
    """A finding for a question that was answered."""
    return holds(code, text) if true else differs(code, otherwise)


def server_findings(found: Evidence, scope: ServerScope) -> list[Finding]:
    """What the server says of itself, of the symbol and of the account."""
    return [*_logon(found), *_definition(found, scope), *_spellings(found, scope), *_queries(found)]


def _logon(found: Evidence) -> list[Finding]:
    server = found.logon
    return [
        either(
            "links_orders",
            true=bool(server.OCOOrdersSupported and server.BracketOrdersSupported),
            text="the logon says that OCO pairs and brackets are supported",
            otherwise=f"the logon says OCOOrdersSupported {server.OCOOrdersSupported}, BracketOrdersSupported "
            f'{server.BracketOrdersSupported}: the daemon links orders itself with broker.brackets = "client"',
        ),
        either(
            "replaces_orders",
            true=bool(server.OrderCancelReplaceSupported),
            text="the logon says that orders can be replaced",
            otherwise="the logon says that orders can't be replaced: the daemon cancels them and sends new ones",
        ),
        either(
            "one_position",
            true=not server.UsesMultiplePositionsPerSymbolAndTradeAccount,
            text="there is one position per symbol and account",
            otherwise="there may be several positions per symbol and account: the daemon takes their sum",
        ),
        _prices(found),
    ]


def _prices(found: Evidence) -> Finding:
    match found.prices:
        case dtc.MarketDataSnapshot():
            return holds("serves_prices", 'prices of the symbol come over DTC (feed.source = "dtc")')
        case dtc.MarketDataReject(RejectText=text):
            return differs(
                "serves_prices",
                f'prices of the symbol are refused over DTC ({text}): feed.source = "scid" reads Sierra Chart\'s files',
            )
    return unknown("serves_prices", "a subscription to prices of the symbol was not answered")


def _definition(found: Evidence, scope: ServerScope) -> list[Finding]:
    if not found.definition.messages:
        return [unknown("tick_size", "there is no definition of the symbol")]
    definition, instrument, multiplier = found.definition.messages[-1], scope.instrument, found.multiplier
    tick = nearest_decimal(definition.MinPriceIncrement)
    value = nearest_decimal(definition.CurrencyValuePerIncrement)
    return [
        either(
            "tick_size",
            true=abs(tick - instrument.tick_size) < 1e-6,
            text=f"the symbol moves by {tick:g}",
            otherwise=f"the definition says that the symbol moves by {tick:g}, not by {instrument.tick_size:g}: "
            "it is another product, or another scale",
        ),
        either(
            "tick_value",
            true=abs(value - instrument.tick_value) < 1e-6,
            text=f"a tick is worth {value:g}",
            otherwise=f"the definition says that a tick is worth {value:g}, not {instrument.tick_value:g}",
        ),
        either(
            "price_scale",
            true=multiplier == 1.0,
            text="prices in orders are as displayed (DisplayPriceMultiplier 1)",
            otherwise=f"prices in orders are the displayed ones divided by {multiplier:g} (DisplayPriceMultiplier): "
            "the daemon does that",
        ),
    ]


def reported_symbols(found: Evidence) -> set[str]:
    """Every spelling of the symbol in what the server said about it and about our orders."""
    named = [*found.definition.messages, *(m for story in found.stories for m in story.reports)]
    return {message.Symbol for message in named}


def reported_accounts(found: Evidence) -> set[str]:
    """Every spelling of the account in what the server said about our orders.

    An answer to a query proves nothing here, since it may be about all accounts; nor does an account that is listed.
    """
    named = {message.TradeAccount for story in found.stories for message in story.reports}
    return named - {message.TradeAccount for message in found.accounts.messages}


def _accounts_in_answers(found: Evidence) -> set[str]:
    answers = (found.fills_since, found.fills_by_days, found.balance)
    return {message.TradeAccount for answer in answers for message in answer.messages}


def _spellings(found: Evidence, scope: ServerScope) -> list[Finding]:
    symbols, accounts = reported_symbols(found), reported_accounts(found)
    others = _accounts_in_answers(found) - accounts - scope.accounts - {""}
    return [
        _spelling("symbol_spelling", scope.instrument.symbol, symbols - scope.symbols, "broker.symbol_spellings"),
        _spelling("account_spelling", scope.account, accounts - scope.accounts, "broker.account_spellings"),
        either(
            "answers_of_one_account",
            true=not others,
            text=f"answers about {scope.account} name no other account",
            otherwise=f"answers about {scope.account} name others as well ({len(others)}): it is not known whether "
            "they are other accounts or spellings of this one",
        ),
    ]


def _spelling(code: str, ours: str, others: set[str], setting: str) -> Finding:
    if not others:
        return holds(code, f"{ours} is spelled like that in everything that was reported")
    said = [f"{other}: {setting} needs it" for other in sorted(others - {""})]
    blank = ["blank, which the daemon takes as ours where our order is named"] if "" in others else []
    return differs(code, f"{ours} is reported as {'; '.join(said + blank)}")


def _queries(found: Evidence) -> list[Finding]:
    answers = {
        "accounts_listed": (found.accounts, "400 trade accounts"),
        "orders_listed": (found.orders, "300 open orders"),
        "positions_listed": (found.positions, "305 positions"),
        "fills_since_listed": (found.fills_since, "303 fills by StartDateTime"),
        "fills_by_days_listed": (found.fills_by_days, "303 fills by NumberOfDays"),
        "balance_given": (found.balance, "601 balance"),
    }
    complete = [answer for answer, _ in answers.values() if answer.complete]
    return [
        *(_query(code, answer, what) for code, (answer, what) in answers.items()),
        either(
            "answers_numbered",
            true=all(answer.numbered for answer in complete if not answer.refusal),
            text="answers carry the RequestID of their request",
            otherwise="some answers carry no RequestID: the daemon asks one question of a kind at a time",
        ),
    ]


def _query(code: str, answer: Answer, what: str) -> Finding:
    if not answer.complete:
        return differs(code, f"{what}: the answer was not complete in time")
    if answer.refusal:
        return differs(code, f"{what}: refused ({answer.refusal})")
    count = len(answer.messages)
    return holds(code, f"{what}: answered, {count or 'none'}{' listed' if count else ''}")
