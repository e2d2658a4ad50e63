"""Nothing is opened by a decision that waited too long."""

import asyncio
import socket
import time

import pytest

from mia_daemon.clock import NS_PER_S, WallClock
from mia_daemon.risk.codes import RiskCode
from mia_daemon.risk.snapshot import Delays
from mia_daemon.stage import LoopWatch
from mia_daemon.trading.live_trading import TradingSession


async def test_a_decision_that_waited_too_long_is_dropped(make_rig):
    rig = make_rig(settings={"risk": {"max_decision_age_ms": 200.0}})
    rig.play((1, 100.0))
    await rig.reconcile()
    assert rig.decide("buy", 1, delays=Delays(0.0, 200.1)).code is RiskCode.LATE_DECISION
    assert rig.broker.orders_sent == 0
    rig.play((1000, 100.0))
    assert rig.broker.orders_sent == 0  # dropped, not sent late
    assert rig.decide("buy", 1, delays=Delays(0.0, 200.0)).allowed
    rig.play((10, 100.0), (10, 100.0))
    assert rig.decide("exit", 0, delays=Delays(0.0, 1e9)).allowed  # what closes is never too late
    rig.play((10, 100.0), (10, 100.0))
    assert rig.position == 0


class Stopwatch(WallClock):
    def __init__(self):
        self.ns = 0

    def monotonic_ns(self):
        return self.ns


@pytest.mark.parametrize("measured", [True, False])
def test_the_age_is_what_the_stopwatch_says_and_nothing_in_a_replay(measured):
    """From the arrival of the bytes, and as long as the loop was held up they may have lain unread before."""
    session = TradingSession.__new__(TradingSession)
    session._clock = clock = Stopwatch()
    session._measured = measured
    session.path = type("Path", (), {"inference_ns": 3_000_000})
    session._loop_watch = LoopWatch(clock)
    session._loop_watch.held_up_ns = 40_000_000
    window = type("Window", (), {"ingress_ns": 1_000_000_000})
    clock.ns = 1_250_000_000
    assert session._delays(window) == (Delays(3.0, 290.0) if measured else Delays(0.0, 0.0))
    window.ingress_ns = 0  # not known
    assert session._delays(window).decision_ms == (40.0 if measured else 0.0)


async def test_a_loop_that_is_held_up_is_noticed_before_what_waited_is_read():
    ours, theirs = socket.socketpair()
    watch = LoopWatch(WallClock())
    reader, writer = await asyncio.open_connection(sock=ours)
    with theirs:
        watch.start()
        await asyncio.sleep(0.06)
        theirs.send(b"x")
        time.sleep(0.3)  # noqa: ASYNC251  the very thing
        await reader.read(1)
        assert watch.held_up_ns > 0.2 * NS_PER_S
        while watch.held_up_ns > 0.2 * NS_PER_S:  # noqa: ASYNC110  it is looked at again and again
            await asyncio.sleep(0.01)
        watch.stop()
        assert watch.held_up_ns == 0
    writer.close()
    await writer.wait_closed()
