import pytest

from mia_daemon.errors import UsageError
from mia_daemon.products.instruments import instrument


@pytest.mark.parametrize(
    ("symbol", "root", "point_value"),
    [("ESZ26_FUT_CME", "ES", 50), ("MNQU21-CME", "MNQ", 2), ("NQH27.CME", "NQ", 20), ("MESM7", "MES", 5)],
)
def test_products_are_known_by_root(symbol, root, point_value):
    product = instrument(symbol)
    assert (product.symbol, product.root, product.point_value) == (symbol, root, point_value)


@pytest.mark.parametrize("symbol", ["", "AAPL", "ES", "ESA26", "XESZ26", "CLZ26_FUT_CME"])
def test_another_symbol_is_refused(symbol):
    with pytest.raises(UsageError, match="not a contract of ES, NQ"):
        instrument(symbol)


def test_prices_round_to_ticks_and_notional_is_in_currency():
    es = instrument("ESZ26_FUT_CME")
    assert es.round_to_tick(6000.13) == 6000.25
    assert es.round_to_tick(6000.12) == 6000.0
    assert es.notional(6000.0, -2) == 600_000
