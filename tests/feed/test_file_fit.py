"""What a file is taken for, and what it holds."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.errors import FileFormatError
from mia_daemon.feed import sierra_files as sf
from mia_daemon.feed.file_fit import PriceFile, contract_misfit, misfits, name_misfit, refuse
from mia_daemon.feed.file_report import report_on
from mia_daemon.products.instruments import instrument
from mia_daemon.products.product_table import shipped


def ns(text):
    return int(datetime.fromisoformat(text + "+00:00").timestamp()) * 10**9


NOW_NS = ns("2026-11-25T00:00:00")
PATH = Path("x.scid")
PRODUCTS = sorted(shipped())


def traded(root):
    return instrument(f"{root}Z26_FUT_CME" if root != "CL" else "CLF27_FUT_CME")


def walk(root, level=None, count=2000, when="2026-11-23T15:00:00"):
    """Trades a second apart, of a price that wanders by ticks."""
    product = shipped()[root]
    ticks = round((level or product.simulated_price) / product.tick_size)
    steps = np.cumsum(np.random.default_rng(3).integers(-3, 4, count))
    records = np.zeros(count, sf.SCID_RECORD)
    records["time"] = sf.to_us(ns(when) + np.arange(count) * 10**9)
    records["close"] = (ticks + steps) * product.tick_size
    records["total_volume"] = records["ask_volume"] = 1
    return records


def texts(records, root, multiplier=1.0, now_ns=NOW_NS):
    return [(each.refused, each.text) for each in misfits(records, PriceFile(PATH, traded(root), multiplier), now_ns)]


@pytest.mark.parametrize("root", PRODUCTS)
def test_a_file_of_the_product_fits(root):
    assert texts(walk(root), root) == []


@pytest.mark.parametrize("root", PRODUCTS)
def test_prices_in_hundredths_are_refused_with_the_multiplier_to_set(root):
    records = walk(root)
    records["close"] *= 100
    ((refused, text), *_) = texts(records, root)
    assert refused
    assert f"has prices around {np.median(records['close'].astype(float)):.10g}, and {root} trades between" in text
    assert "set feed.price_multiplier to 0.01 times what it is" in text
    assert texts(records, root, 0.01) == []


NAME_ONLY = [{"ES", "MES", "NQ", "MNQ"}, {"RTY", "M2K", "GC"}]
"""Products of one tick and level: nothing but the name tells them apart."""

SAME = {"ES": "MES", "NQ": "MNQ", "RTY": "M2K", "YM": "MYM"}


@given(st.sampled_from(PRODUCTS), st.sampled_from(PRODUCTS))
def test_a_file_under_the_name_of_another_product_is_noticed(of, taken_for):
    same = of == taken_for or {of, taken_for} in [set(pair) for pair in SAME.items()]
    assert (name_misfit(Path(f"{of}Z26-CME.scid"), traded(taken_for), shipped()) is None) == same
    found = misfits(walk(of), PriceFile(PATH, traded(taken_for)), NOW_NS)
    alike = any({of, taken_for} <= group for group in NAME_ONLY)
    assert any(misfit.refused for misfit in found) == (not same and not alike)


def test_a_name_that_names_no_contract_is_left_alone():
    assert name_misfit(Path("trades.scid"), traded("ES"), shipped()) is None


def test_a_few_prices_of_zero_are_a_warning_and_many_are_refused():
    records = walk("ES")
    records["close"][[3, 5]] = 0.0
    assert texts(records, "ES") == [
        (False, "x.scid has 2 records at a price of 0: delete it and let Sierra Chart download it again")
    ]
    records["close"][:500] = 0.0
    assert texts(records, "ES")[0][0]


def test_zero_and_less_are_prices_of_crude_oil():
    assert texts(walk("CL", level=-2.0), "CL") == []
    assert texts(walk("CL", level=0.0), "CL") == []


def test_a_few_prices_far_off_or_between_ticks_are_warnings():
    records = walk("ES")
    records["close"][7] = 99_999.0
    ((refused, text),) = texts(records, "ES")
    assert (refused, "has 1 records at prices beyond 500 to 50000" in text) == (False, True)
    records = walk("ES")
    records["close"][7] += 0.1
    ((refused, text),) = texts(records, "ES")
    assert (refused, "1 of 2,000 prices that are no multiple of ES's tick 0.25" in text) == (False, True)


def test_prices_of_a_coarser_step_are_refused():
    records = walk("ES")
    records["close"] = np.round(records["close"])
    ((refused, text),) = texts(records, "ES")
    assert refused
    assert text.startswith("x.scid has prices in steps of 1 only, and ES's tick is 0.25: name the file of that product")


def test_trades_on_a_closed_day_are_a_warning():
    ((refused, text),) = texts(walk("CL", when="2026-04-03T15:00:00"), "CL")  # Good Friday
    assert not refused
    assert "has 2,000 of 2,000 records while CL is closed, the first at 2026-04-03T15:00:00.000000Z" in text
    assert texts(walk("ES", when="2026-04-03T12:00:00", count=900), "ES") == []  # it trades until 13:15 UTC


def test_a_record_in_the_future_is_a_warning():
    ((refused, text),) = texts(walk("ES"), "ES", now_ns=ns("2026-11-23T15:00:00"))
    assert (refused, "of 2026-11-23T15:33:19.000000Z, which is in the future" in text) == (False, True)
    assert texts(walk("ES"), "ES", now_ns=ns("2026-11-23T15:32:30")) == []  # a clock that is a little off


def test_a_record_after_the_expiry_is_a_warning():
    records = walk("ES", when="2026-12-21T15:00:00")
    ((refused, text),) = texts(records, "ES", now_ns=ns("2027-01-01T00:00:00"))
    assert (refused, "after ESZ26_FUT_CME expired on 2026-12-18" in text) == (False, True)
    assert misfits(records, PriceFile(PATH, instrument("ESZ7")), ns("2027-12-01T00:00:00")) == []


@pytest.mark.parametrize(
    ("symbol", "said"),
    [
        ("ESZ26_FUT_CME", None),
        ("CLF27_FUT_CME", None),
        ("ESU26_FUT_CME", "ESU26_FUT_CME expired on 2026-09-18"),
        ("ESM27_FUT_CME", "ESM27_FUT_CME expires on 2027-06-17, and ESZ26 is in force until 2026-12-14"),
        ("GCZ28-COMEX", "GCZ26 is in force until 2026-11-27"),
    ],
)
def test_an_expired_and_a_far_contract_are_warnings(symbol, said):
    found = contract_misfit(instrument(symbol), NOW_NS, shipped(), "instrument.symbol")
    if said is None:
        assert found is None
        return
    assert not found.refused
    assert said in found.text


def test_damaged_records_are_left_to_the_checks_of_the_format():
    records = walk("ES")
    records["close"][:1999] = np.nan
    records["time"][1999] = 0
    assert misfits(records, PriceFile(PATH, traded("ES")), NOW_NS) == []


def test_times_of_old_files_are_named():
    records = walk("ES", count=5)
    records["time"].view("<f8")[:] = 44_000.5 + np.arange(5) / 86_400
    with pytest.raises(FileFormatError, match=r"x\.scid: record 0 has times that are doubles, days since 1899"):
        sf.check_scid(records, PATH)


def test_info_lists_what_does_not_fit(tmp_path):
    records = walk("CL")
    path = tmp_path / "ESZ26_FUT_CME.scid"
    path.write_bytes(sf.SCID.header() + records.tobytes())
    report = report_on(path, 300.0, NOW_NS)
    assert report.misfits[0].startswith("has prices around ")
    assert "\nmisfit      has prices around " in str(report)
    records["time"].view("<f8")[:] = 44_000.5
    path.write_bytes(sf.SCID.header() + records.tobytes())
    assert report_on(path, 300.0, NOW_NS).misfits[0].startswith("its times are doubles, days since 1899")


def test_what_is_refused_is_raised_and_the_rest_is_returned():
    found = misfits(walk("ES"), PriceFile(PATH, traded("ES")), 0)
    assert len(refuse(found)) == 1
    with pytest.raises(FileFormatError, match="has prices around"):
        refuse(misfits(walk("CL"), PriceFile(PATH, traded("ES")), NOW_NS))
