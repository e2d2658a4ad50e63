"""What a live feed may say of times follows from the configuration, and every valid one stays valid."""

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Settings
from mia_daemon.daemon.assembly import event_limits
from mia_daemon.feed.event_checks import EventLimits
from tests.rig import RISK


def limits(feed, max_clock_skew_s=2.0):
    settings = Settings.model_validate({"risk": RISK | {"max_clock_skew_s": max_clock_skew_s}, "feed": feed})
    return event_limits(settings)


def test_new_risk_is_refused_before_an_event_is_clamped():
    assert limits({"source": "dtc"}) == EventLimits(3 * NS_PER_S)
    assert limits({"source": "scid", "scid_path": "x.scid"}) == EventLimits(3 * NS_PER_S)
    assert limits({"source": "dtc"}, "waived") == EventLimits(5 * NS_PER_S)


def test_a_server_may_have_a_time_of_its_own_where_the_age_of_events_is_not_looked_at():
    assert limits({"source": "dtc", "max_event_age_s": 0}) == EventLimits(3 * NS_PER_S, own_time=True)


def test_the_simulator_has_a_time_of_its_own():
    assert limits({"source": "simulator"}) == EventLimits()
