"""The products that ship: facts of the exchange, in every spelling; and those that a configuration adds."""

import tomllib
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.errors import UsageError
from mia_daemon.products.contracts import contract_dates, contract_on
from mia_daemon.products.instruments import companion, contract_of, instrument, same_contract
from mia_daemon.products.product import Hours
from mia_daemon.products.product_table import shipped
from mia_daemon.products.ticks import decimals_of, price_text
from mia_daemon.products.trading_calendar import CLOSE_NS, OPEN_NS, TRADE_DATE, TradingCalendar

PROJECT = Path(__file__).resolve().parents[2]


def test_the_shipped_table_is_the_one_beside_the_configuration():
    """One home: what people read in etc/ is what the package ships."""
    shown = PROJECT / "etc" / "products.toml"
    assert shown.resolve() == PROJECT / "mia_daemon" / "products" / "products.toml"
    assert list(tomllib.loads(shown.read_text())) == list(shipped())


@pytest.mark.parametrize(
    ("root", "tick_size", "tick_value", "point_value", "cost"),
    [
        # As before products were data:
        ("ES", 0.25, 12.50, 50, 1.00),
        ("NQ", 0.25, 5.00, 20, 1.00),
        ("MES", 0.25, 1.25, 5, 0.35),
        ("MNQ", 0.25, 0.50, 2, 0.35),
        # Contract specifications at cmegroup.com:
        ("RTY", 0.1, 5.00, 50, 1.00),
        ("YM", 1.0, 5.00, 5, 1.00),
        ("M2K", 0.1, 0.50, 5, 0.35),
        ("MYM", 1.0, 0.50, 0.5, 0.35),
        ("CL", 0.01, 10.00, 1000, 1.00),
        ("GC", 0.1, 10.00, 100, 1.00),
        ("ZN", 1 / 64, 15.625, 1000, 1.00),
        ("6J", 5e-7, 6.25, 12_500_000, 1.00),
    ],
)
def test_tick_and_value_of_a_product(root, tick_size, tick_value, point_value, cost):
    traded = instrument(f"{root}Z26_FUT_CME")
    assert (traded.root, traded.tick_size, traded.tick_value) == (root, tick_size, tick_value)
    assert traded.point_value == pytest.approx(point_value)
    assert (traded.cost_per_side, traded.product.currency) == (cost, "USD")


@pytest.mark.parametrize(
    ("symbol", "root"),
    [
        ("CLF27", "CL"), ("CLF27-NYMEX", "CL"), ("CLF27_FUT_CME", "CL"), ("F.US.CLEF27", "CL"),
        ("GCG27-COMEX", "GC"), ("F.US.GCEG7", "GC"), ("ZNZ26-CBOT", "ZN"), ("F.US.TYAZ26", "ZN"),
        ("6JZ26-CME", "6J"), ("6JZ6", "6J"), ("F.US.JY6Z26", "6J"), ("RTYZ26-CME", "RTY"), ("YMZ26-CBOT", "YM"),
        ("M2KZ26", "M2K"), ("MYMZ26.x", "MYM"), ("F.US.EPZ26", "ES"), ("F.US.MESM25", "MES"), ("NQH27.CME", "NQ"),
    ],
)  # fmt: skip
def test_a_contract_is_known_in_the_spellings_of_files_and_services(symbol, root):
    traded = instrument(symbol)
    assert (traded.symbol, traded.root) == (symbol, root)
    assert contract_of(symbol) == traded.contract


def test_one_contract_in_two_spellings_is_the_same():
    assert same_contract("ESZ26_FUT_CME", "F.US.EPZ6")
    assert same_contract("6JZ26-CME", "F.US.JY6Z26")
    assert not same_contract("CLZ26_FUT_CME", "F.US.CLEF27")
    assert not same_contract("ESZ26_FUT_CME", "F.US.ENQZ26")


@pytest.mark.parametrize("symbol", ["CLZ26\n", "F.US.CLE", "CLEF27", "F.US.EPZ26.x", "XYZ26-CME"])
def test_what_no_product_is_spelled_like_is_refused_with_the_way_to_add_it(symbol):
    with pytest.raises(UsageError, match=r"is not a contract of ES, NQ, .*describe its product in a table \[product\."):
        instrument(symbol)


@pytest.mark.parametrize(
    ("symbol", "expiry", "held_until"),
    [
        # Dates that CME published:
        ("CLK20-NYMEX", date(2020, 4, 21), date(2020, 4, 21)),
        ("CLF25-NYMEX", date(2024, 12, 19), date(2024, 12, 19)),
        ("GCZ24-COMEX", date(2024, 12, 27), date(2024, 11, 28)),  # first notice on 2024-11-29
        ("ZNZ24-CBOT", date(2024, 12, 19), date(2024, 11, 26)),  # first position day 2024-11-27
        ("6JZ24-CME", date(2024, 12, 16), date(2024, 12, 16)),
        ("ESZ26_FUT_CME", date(2026, 12, 18), date(2026, 12, 18)),
        ("RTYM26-CME", date(2026, 6, 18), date(2026, 6, 18)),
    ],
)
def test_a_contract_expires_when_the_exchange_says(symbol, expiry, held_until):
    dates = contract_dates(instrument(symbol), expiry)
    assert (dates.expiry, dates.held_until) == (expiry, held_until)


@pytest.mark.parametrize(
    ("root", "day", "symbol", "rolls", "following"),
    [
        ("CL", date(2026, 12, 1), "CLF27_FUT_CME", date(2026, 12, 17), "CLG27_FUT_CME"),
        ("CL", date(2026, 12, 17), "CLG27_FUT_CME", date(2027, 1, 16), "CLH27_FUT_CME"),
        ("GC", date(2026, 12, 1), "GCG27_FUT_CME", date(2027, 1, 26), "GCJ27_FUT_CME"),
        ("ZN", date(2026, 12, 1), "ZNH27_FUT_CME", date(2027, 2, 22), "ZNM27_FUT_CME"),
        ("6J", date(2026, 12, 1), "6JZ26_FUT_CME", date(2026, 12, 10), "6JH27_FUT_CME"),
        ("YM", date(2026, 12, 14), "YMH27_FUT_CME", date(2027, 3, 15), "YMM27_FUT_CME"),
    ],
)
def test_a_root_rolls_through_the_months_of_its_product(root, day, symbol, rolls, following):
    found = contract_on(day, "{root}{month}{year}_FUT_CME", root)
    assert (found.symbol, found.rolls, found.following) == (symbol, rolls, following)


@given(st.sampled_from(sorted(shipped())), st.dates(date(2016, 1, 1), date(2034, 1, 1)))
def test_a_contract_in_force_can_be_held_until_it_rolls(root, day):
    found = contract_on(day, "{root}{month}{year}", root)
    dates = contract_dates(instrument(found.symbol), day)
    assert day < dates.roll == found.rolls <= dates.held_until + timedelta(days=1) <= dates.expiry + timedelta(days=1)


def test_a_product_has_its_own_sessions():
    """On Good Friday of 2026 ES trades until the morning and CL not at all; on Presidents' Day CL trades longer."""
    days = (date(2026, 1, 1), date(2026, 12, 31))
    es, cl, zn = (TradingCalendar.load(*days, hours=shipped()[root].hours) for root in ("ES", "CL", "ZN"))

    def close(calendar, day):
        session = calendar.schedule(day, day)
        return (
            datetime.fromtimestamp(session[0, CLOSE_NS] / 1e9, shipped()["ES"].hours.zone).time()
            if len(session)
            else None
        )

    good_friday, presidents_day = date(2026, 4, 3), date(2026, 2, 16)
    assert [close(each, good_friday) for each in (es, cl, zn)] == [time(8, 15), None, time(10, 15)]
    assert [close(each, presidents_day) for each in (es, cl, zn)] == [time(12), time(13, 30), time(12)]


def test_a_closed_day_added_by_hand_has_no_session():
    hours = shipped().with_tables({"ES": {"closed_days": ["2026-11-03"]}})["ES"].hours
    days = (date(2026, 11, 2), date(2026, 11, 4))
    assert TradingCalendar.load(*days, hours=hours).rows[:, TRADE_DATE].tolist() == [20261102, 20261104]


def test_without_a_calendar_every_weekday_trades():
    day_session = Hours("", "Europe/Berlin", time(8), time(22), time(9), time(17, 30))
    calendar = TradingCalendar.load(date(2026, 12, 24), date(2026, 12, 28), hours=day_session)
    assert calendar.rows[:, TRADE_DATE].tolist() == [20261224, 20261225, 20261228]
    assert calendar.rows[0, OPEN_NS] == int(datetime.fromisoformat("2026-12-24T08:00+01:00").timestamp()) * 10**9
    assert day_session.trade_date_at(int(calendar.rows[0, CLOSE_NS])) == date(2026, 12, 24)


def test_an_unknown_calendar_is_refused(tmp_path):
    hours = shipped().with_tables({"ES": {"calendar": "CME Mars"}})["ES"].hours
    with pytest.raises(UsageError, match="'CME Mars' is no calendar of pandas_market_calendars"):
        TradingCalendar.load(cache_dir=tmp_path, hours=hours)


# ---------------------------------------------------------------------------------------------------- further products


def test_a_further_product_is_like_another_but_for_what_it_states():
    products = shipped().with_tables({"MCL": {"like": "CL", "tick_value": 1.0, "commission_per_side": 0.5}})
    micro = instrument("MCLF27-NYMEX", products)
    assert (micro.tick_size, micro.tick_value, micro.cost_per_side) == (0.01, 1.0, 0.5)
    assert contract_dates(micro, date(2026, 12, 1)).expiry == date(2026, 12, 21)
    assert companion(micro) == "GCF27-NYMEX"
    with pytest.raises(UsageError):
        instrument("MCLF27-NYMEX")


def test_one_value_of_a_shipped_product_can_be_overridden():
    products = shipped().with_tables({"ES": {"commission_per_side": 0.85, "exchange_fee_per_side": 1.38}})
    assert instrument("ESZ26", products).cost_per_side == pytest.approx(2.23)
    assert instrument("MESZ26", products).cost_per_side == pytest.approx(0.35 + 1.38)  # a micro is like its mini
    assert shipped()["ES"].cost_per_side == 1.0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"tick_size": 0.1}, "product.XY has no currency, tick_value"),
        ({"like": "QQ"}, "product.XY.like: 'QQ' is no other product"),
        ({"like": "XY"}, "product.XY.like: 'XY' is no other product"),
        ({"like": "ES", "lowest_price": 6e5}, "lowest_price 600000 is not below"),
        ({"like": "ES", "simulated_price": 1.0}, "simulated_price 1 is not a price of it"),
        ({"like": "ES", "months": "HA"}, "has letters that are no month"),
        ({"like": "ES", "symbols": ["XY{year}"]}, "needs {month} and {year}"),
    ],
)
def test_a_table_that_describes_no_product_is_refused_by_name(table, said):
    with pytest.raises(UsageError) as refusal:
        shipped().with_tables({"XY": table})
    assert said in str(refusal.value)


# --------------------------------------------------------------------------------------------------------------- prices


@pytest.mark.parametrize(
    ("root", "price", "text"),
    [
        ("ES", 6000.25, "6000.25"),
        ("CL", -37.63, "-37.63"),
        ("YM", 42001.0, "42001"),
        ("6J", 0.0067345, "0.0067345"),
        ("ZN", 110.515625, "110'165"),
        ("ZN", 110.5, "110'160"),
        ("ZN", 109.984375, "109'315"),
        ("ES", float("nan"), "nan"),
    ],
)
def test_a_price_is_written_as_people_write_it(root, price, text):
    assert shipped()[root].price_text(price) == text


@pytest.mark.parametrize(
    ("price_format", "price", "text"),
    [("32nds", 118.5, "118'16"), ("quarter_32nds", 106.5 + 3 / 128, "106'167"), ("quarter_32nds", -0.25, "-0'080")],
)
def test_further_price_formats(price_format, price, text):
    assert shipped().with_tables({"ZN": {"price_format": price_format}})["ZN"].price_text(price) == text


@given(st.sampled_from(sorted(shipped())), st.integers(-200_000, 400_000))
def test_a_price_rounded_to_its_tick_is_the_decimal_number(root, ticks):
    """To the bit: 72.12, and not 72.12000000000001."""
    traded = instrument(f"{root}Z26")
    price = traded.round_to_tick(ticks * traded.tick_size)
    assert price == round(price, decimals_of(traded.tick_size))
    assert traded.round_to_tick(price) == price
    assert abs(price - ticks * traded.tick_size) < 1e-6 * traded.tick_size


def test_a_notional_is_never_negative():
    assert instrument("CLK20").notional(-37.63, 2) == pytest.approx(75_260)


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (6000.0, "6000.00"),
        (6000.5, "6000.50"),
        (72.12, "72.12"),
        (0.0067345, "0.0067345"),
        (110.515625, "110.515625"),
        (-37.63, "-37.63"),
        (0.0, "0.00"),
        (6000.0 + 1 / 3, "6000.333333"),
        (float("nan"), "nan"),
    ],
)
def test_a_price_for_people_has_the_decimals_it_needs(price, text):
    assert price_text(price) == text


def test_what_can_be_a_price_depends_on_the_product():
    es, cl = instrument("ESZ26"), instrument("CLF27")
    assert [es.is_price(price) for price in (6000.0, 0.0, -0.25, float("nan"), float("inf"))] == [True, *[False] * 4]
    assert [cl.is_price(price) for price in (72.0, 0.0, -37.63, float("nan"), float("-inf"))] == [
        True, False, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "price", "known", "alike"),
    [
        ("ESZ26", 600_000.0, 6000.0, False),
        ("ESZ26", 60.0, 6000.0, False),
        ("ESZ26", 6100.0, 6000.0, True),
        ("ESZ26", -6000.0, 6000.0, False),
        ("CLF27", 7200.0, 72.0, False),
        ("CLF27", 0.72, 72.0, False),
        ("CLF27", -0.5, 0.05, True),  # near zero a ratio says nothing
        ("CLF27", -37.63, 10.0, False),
    ],
)
def test_a_price_of_another_scale_is_told_from_one_of_the_market(symbol, price, known, alike):
    assert instrument(symbol).is_same_scale(price, known) is alike
