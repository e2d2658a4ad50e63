from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.errors import UsageError
from mia_daemon.products.instruments import check_symbol, instrument


@pytest.mark.parametrize(
    ("symbol", "root", "point_value"),
    [("ESZ26_FUT_CME", "ES", 50), ("MNQU21-CME", "MNQ", 2), ("NQH27.CME", "NQ", 20), ("MESM7", "MES", 5)],
)
def test_products_are_known_by_root(symbol, root, point_value):
    product = instrument(symbol)
    assert (product.symbol, product.root, product.point_value) == (symbol, root, point_value)


@pytest.mark.parametrize(
    "symbol", ["", "AAPL", "ES", "ESA26", "XESZ26", "XYZ26_FUT_CME", "ESZ26_FUT\n", "ESZ26\n", "ESZ\u0662\u0666"]
)
def test_another_symbol_is_refused(symbol):
    with pytest.raises(UsageError, match="not a contract of ES, NQ"):
        instrument(symbol)


def test_prices_round_to_ticks_and_notional_is_in_currency():
    es = instrument("ESZ26_FUT_CME")
    assert es.round_to_tick(6000.13) == 6000.25
    assert es.round_to_tick(6000.12) == 6000.0
    assert es.notional(6000.0, -2) == 600_000


@pytest.mark.parametrize(
    "symbol", ["ESZ26-../../x", "ESZ26_a/b", "ESZ26-a\\b", "ESZ26-\0", "ESZ26- ", "ESZ26_" + "x" * 64]
)
def test_a_symbol_that_names_no_file_of_its_own_is_refused(symbol):
    with pytest.raises(UsageError, match="a symbol "):
        instrument(symbol)


@given(st.text())
def test_what_passes_as_a_symbol_is_the_name_of_a_file_in_its_directory(text):
    try:
        symbol = check_symbol(text)
    except ValueError:
        return
    path = Path("/data", f"{symbol}.scid")
    assert path.parent == Path("/data")
    assert path.resolve().parent == Path("/data")
    assert symbol.isprintable()
