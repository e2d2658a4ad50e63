"""What the executor does when the server goes wrong on purpose: one fault at a time, then many at once.

The simulator serves over real TCP; its own account is the truth that ours is held against.
"""

import json
import random
from collections import Counter

import pytest
from sierra_session import Session, connected, order

from mia_daemon.dtc import messages as dtc
from mia_daemon.records import LinkReport, OrderReport, OrderRole, OrderStatus, OrderType, Side
from mia_daemon.simulator import client_session

pytestmark = pytest.mark.usefixtures("impatient")

SPEED = 5.0
QUICK = {"broker": {"ack_timeout_s": 1.0, "reconcile_every_s": 2.0, "entry_timeout_s": 4.0}}


NAMES = {
    "SubmitNewSingleOrder": ("ClientOrderID",),
    "SubmitNewOCOOrder": ("ClientOrderID_1", "ClientOrderID_2"),
    "SubmitFlattenPositionOrder": ("ClientOrderID",),
}


class Trading(Session):
    """A session that ends flat and then holds its books against the server's."""

    def __init__(self, make_rig, server, dtc_settings=None):
        super().__init__(make_rig, server, dtc_settings, SPEED, settings={**QUICK})

    async def __aenter__(self):
        await self.ready()
        return self

    async def __aexit__(self, kind, *_):
        if kind is None:
            await self.agrees()
        await self.desk.broker.close()

    @property
    def executor(self):
        return self.rig.executor

    @property
    def true_position(self):
        return self.server.exchange.position()

    def protected(self):
        return self.rig.position and self.rig.orders.protection(Side.SELL) == self.rig.position

    async def enter_far_away(self):
        """An entry that rests in the book below the market, which is not where it seemed."""
        self.shift = -12
        self.show()
        assert self.rig.decide("buy", 1).allowed
        await self.until(lambda: self.server.exchange.main.engine.book.bids and self.states() == ["working"])
        self.shift = 0

    def states(self):
        return [entry.state.value for entry in self.rig.orders.with_role(OrderRole.ENTRY)]

    async def agrees(self):
        """Flat on both sides, nothing unknown, no order sent twice, each execution booked once."""
        self.rig.operator.stop(flatten=True)
        await self.until(lambda: self.executor.settled and not len(self.rig.orders) and not self.true_position)
        assert self.rig.position == 0
        sent = Counter(
            facts[name]
            for facts in map(json.loads, (self.server.path / "orders.jsonl").read_text().splitlines())
            for name in NAMES.get(facts.get("type"), ())
        )
        assert max(sent.values()) == 1
        booked = Counter(fill.execution_id for fill in self.rig.notices.fills)
        true = [fill for fill in self.server.exchange.desk.fills if fill.client_id in sent]
        assert booked == Counter(fill.execution_id for fill in true if fill.client_id != "theirs")


async def test_a_refused_entry_leaves_us_flat_and_is_told(make_rig, serving):
    async with serving(speed=SPEED, faults={"reject_share": 1.0}) as server, Trading(make_rig, server) as it:
        it.rig.decide("buy", 1)
        await it.until(lambda: OrderStatus.REJECTED in [u.status for u in it.desk.of(OrderReport)])
        assert it.rig.position == 0
        assert len(it.rig.orders) == 0
        assert "order_rejected" in it.rig.alert_codes


async def test_updates_that_come_twice_are_booked_once(make_rig, serving):
    async with serving(speed=SPEED, faults={"duplicate_share": 1.0}) as server, Trading(make_rig, server) as it:
        it.rig.decide("buy", 2)
        await it.until(it.protected)
        assert sum(fill.quantity for fill in it.desk.fills) > 2
        assert sum(fill.quantity for fill in it.rig.notices.fills) == 2
        assert it.rig.position == it.true_position == 2


@pytest.mark.parametrize("seed", range(3))
async def test_updates_in_the_wrong_order_end_in_the_right_state(make_rig, serving, seed):
    faults = {"reorder_share": 0.5, "seed": seed}
    async with serving(speed=SPEED, faults=faults) as server, Trading(make_rig, server) as it:
        it.rig.decide("buy", 1)
        await it.until(it.protected)
        assert it.rig.position == it.true_position == 1


async def test_updates_that_never_come_are_made_up_for_by_asking(make_rig, serving):
    async with serving(speed=SPEED, faults={"lose_share": 1.0}) as server, Trading(make_rig, server) as it:
        it.rig.decide("buy", 1)
        await it.until(lambda: it.true_position == 1 and it.protected())
        assert "fill_missed" in it.rig.alert_codes


async def test_a_fill_after_its_cancel_was_confirmed_is_booked_and_protected_or_closed(make_rig, serving):
    faults = {"late_fill_share": 1.0, "late_ms": 800.0}
    async with serving(speed=SPEED, faults=faults) as server, Trading(make_rig, server) as it:
        await it.enter_far_away()
        it.rig.operator.cancel_all()
        await it.until(lambda: it.true_position == 1)
        await it.until(lambda: it.rig.position == 1 or it.true_position == 0)
        await it.until(lambda: it.protected() or it.rig.position == it.true_position == 0)


@pytest.mark.parametrize("skew_s", [-40.0, 40.0])
async def test_a_server_whose_clock_is_wrong_is_traded_with_all_the_same(make_rig, serving, skew_s):
    faults = {"clock_skew_s": skew_s, "lose_share": 0.5}
    async with serving(speed=SPEED, faults=faults) as server, Trading(make_rig, server) as it:
        it.rig.decide("buy", 1)
        await it.until(lambda: it.true_position == 1 and it.protected())
        it.rig.decide("exit", 0, "faded")
        await it.until(lambda: it.true_position == 0 and it.executor.settled)


@pytest.mark.parametrize("silent", [True, False])
async def test_a_cancel_that_is_refused_or_not_answered_is_asked_about_and_sent_again(make_rig, serving, silent):
    """Without its number, or for another account: documented is that Sierra Chart rejects it, reported its silence."""
    faults = {"ignore_incomplete_cancels": silent}
    async with serving(speed=SPEED, faults=faults) as server, Trading(make_rig, server) as it:
        send, spoiled = it.desk.broker.link.send, []

        def spoil(*messages):
            for message in messages:
                if isinstance(message, dtc.CancelOrder) and len(spoiled) < 2:
                    spoiled.append(message)
                    message.ServerOrderID, message.TradeAccount = ("", "Sim1") if len(spoiled) == 1 else ("1", "Sim2")
            send(*messages)

        it.desk.broker.link.send = spoil
        await it.enter_far_away()
        it.rig.operator.cancel_all()
        if not silent:
            await it.until(lambda: len(spoiled) == 2 and "request_refused" in it.rig.alert_codes)
            assert it.states() == ["working"]  # not rejected, though that is the status in the answer
        await it.until(lambda: not len(it.rig.orders))
        assert len(spoiled) == 2
        assert ("order_unknown" in it.rig.alert_codes) == silent
        assert not server.exchange.main.engine.alive


async def test_what_a_flatten_at_the_server_leaves_working_is_cancelled(make_rig, serving):
    """209 closes the position and nothing else: our stop and target would open a new one."""
    async with serving(speed=SPEED) as server, connected(server) as stranger, Trading(make_rig, server) as it:
        it.rig.decide("buy", 1)
        await it.until(it.protected)
        stranger.broker.flatten(order("theirs", Side.SELL, 0.0, OrderType.MARKET, OrderRole.EXIT))
        await stranger.sees("theirs", OrderStatus.FILLED)
        assert len(server.exchange.main.engine.alive) == 2
        await it.until(lambda: not server.exchange.main.engine.alive)
        assert it.rig.position == it.true_position == 0


async def test_books_are_asked_for_again_before_trading_resumes(make_rig, serving):
    async with serving(speed=SPEED) as server, Trading(make_rig, server) as it:
        asked, link = [], it.desk.broker.link
        request = link.request

        async def note(message, timeout_s=None):
            asked.append(type(message))
            return await request(message, timeout_s)

        link.request = note
        for connection in list(server._connections):
            connection.transport.abort()
        await it.until(lambda: not it.rig.sync.reconciled)
        assert not it.rig.decide("buy", 1).allowed
        await it.until(lambda: it.rig.sync.reconciled)
        assert set(asked) == {
            dtc.OpenOrdersRequest, dtc.HistoricalOrderFillsRequest, dtc.CurrentPositionsRequest,
            dtc.AccountBalanceRequest,
        }  # fmt: skip
        assert it.rig.decide("buy", 1).allowed
        await it.until(it.protected)


@pytest.mark.parametrize(
    "faults",
    [
        {"reset_after_s": 0.3, "connections": 1},
        {"mute_after_s": 0.3, "connections": 1},
        {"half_open_after_s": 0.3, "connections": 1},
    ],
)
async def test_a_line_that_breaks_in_mid_trade_leaves_nothing_unknown(make_rig, serving, monkeypatch, faults):
    monkeypatch.setattr(client_session, "_HEARTBEAT_S", (1, 60))
    quick = {"heartbeat_interval_s": 1}
    async with serving(speed=SPEED, faults=faults) as server, Trading(make_rig, server, quick) as it:
        it.rig.decide("buy", 1)
        await it.until(lambda: "link_down" in it.rig.alert_codes)
        await it.until(lambda: it.rig.sync.reconciled and it.rig.position == it.true_position)
        assert it.rig.orders.unknown() == []
        assert [report.state.value for report in it.desk.of(LinkReport)][-2:] == ["down", "up"]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_goes_wrong_the_books_agree_in_the_end(make_rig, serving, seed):
    faults = {
        "seed": seed, "split": True, "delay_ms": 3.0, "coalesce_ms": 2.0, "reject_share": 0.1, "duplicate_share": 0.2,
        "reorder_share": 0.2, "lose_share": 0.1, "late_fill_share": 0.5, "clock_skew_s": 3.0,
    }  # fmt: skip
    async with serving(speed=SPEED, faults=faults, seed=seed + 1) as server, Trading(make_rig, server) as it:
        rng = random.Random(seed)
        for _ in range(12):
            it.shift = rng.choice([0, 0, -12, 12])
            it.show()
            it.rig.decide(*rng.choice([("buy", 1), ("buy", 2), ("sell", -1), ("exit", 0)]))
            it.shift = 0
            if rng.random() < 0.2:
                it.rig.operator.cancel_all()
            until_ns = server.exchange.now_ns + 700_000_000
            await it.until(lambda until_ns=until_ns: server.exchange.now_ns > until_ns)
