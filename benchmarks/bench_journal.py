"""What the journal costs: an intent on file before its order may leave, what comes after it, and a decision's rows."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import machine
from mia_daemon.journal.run_header import InstrumentRates, RunBundle, RunConfig, RunHeader
from mia_daemon.journal.trade_files import TradeLog
from mia_daemon.journal.writer import Journal
from mia_daemon.records import (
    Action,
    Decision,
    Fill,
    Order,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    Prediction,
    RegimeProbs,
    Side,
)
from mia_daemon.risk.codes import ALLOWED

PROBS = RegimeProbs(0.7, 0.2, 0.1)
SAID = Prediction(PROBS, 0.5, 0.8, "baseline", 0.0, "0123456789abcdef")


def order(name: str, role: OrderRole) -> Order:
    return Order(name, "ESZ26_FUT_CME", "Sim1", Side.BUY, 1, OrderType.LIMIT, role, "d1", 6000.0)


def decision(n: int) -> Decision:
    return Decision(f"r-{n}", n, n * 5_000_000_000, Action.HOLD, 0, "keep", SAID, 6000.0, 6000.25, {"held_s": 12.5})


def measure(name: str, n: int, work: Callable[[int], object]) -> None:
    spent = np.empty(n)
    for i in range(n):
        started = time.perf_counter_ns()
        work(i)
        spent[i] = time.perf_counter_ns() - started
    p50, p99, p999 = np.percentile(spent, [50, 99, 99.9]) / 1e3
    print(f"{name:58} p50 {p50:8.1f}  p99 {p99:8.1f}  p99.9 {p999:8.1f}  mean {spent.mean() / 1e3:8.1f} us")


def journal_costs(directory: Path, *, durable: bool, n: int) -> None:
    word = "FULL" if durable else "NORMAL"
    journal = Journal(directory / f"{word}.db", durable=durable)
    bundle = RunBundle(name="", sha256="", catalogue_sha256="")
    rates = InstrumentRates(50.0, 2.0)
    journal.begin_run(
        RunHeader(mode="paper", started_ns=1, version="", config=RunConfig({}, ""), bundle=bundle, rates=rates)
    )
    values = np.random.default_rng(1).standard_normal(350).astype(np.float32)

    def bracket(i: int) -> None:
        journal.record_intent(
            [order(f"{i}E", OrderRole.ENTRY), order(f"{i}S", OrderRole.STOP), order(f"{i}T", OrderRole.TARGET)], i
        )

    def decision_and_bracket(i: int) -> None:
        journal.record_decision(decision(i + n), ALLOWED)
        bracket(i + n)

    def update(i: int) -> None:
        journal.record_update(OrderReport(i, f"{i}E", "77", "ESZ26_FUT_CME", "Sim1", OrderStatus.WORKING, Side.BUY, 1))

    def fill(i: int) -> None:
        journal.record_fill(Fill(i, f"x{i}", f"{i}E", "77", "ESZ26_FUT_CME", "Sim1", Side.BUY, 1, 6000.0))

    measure(f"record_intent of a bracket, synchronous = {word}", n, bracket)
    measure(f"record_decision and record_intent, synchronous = {word}", n, decision_and_bracket)
    measure(
        f"record_features, after the order, synchronous = {word}", n,
        lambda i: journal.record_features(f"r-{i + n}", values),
    )  # fmt: skip
    measure(f"record_fill, synchronous = {word}", n, fill)
    measure("record_decision, buffered", n, lambda i: journal.record_decision(decision(i)))
    measure("record_update, buffered", n, update)
    measure("commit of what is buffered", 1, lambda _: journal.commit())
    journal.close()


def main() -> None:
    print(machine.line())
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        directory = Path(name)
        journal_costs(directory, durable=False, n=5000)
        journal_costs(directory, durable=True, n=500)
        log = TradeLog(directory, simulated=True)
        measure("rows of a decision, made", 20_000, lambda i: log.decision(decision(i)))
        measure("rows of 20,000 decisions, written", 1, lambda _: log.flush())
        log.close()


if __name__ == "__main__":
    main()
