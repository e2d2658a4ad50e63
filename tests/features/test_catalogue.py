import csv
from dataclasses import replace

import numpy as np
import pytest

from mia_daemon.errors import UsageError
from mia_daemon.features import catalogue
from mia_daemon.features.catalogue import FEATURES, Inputs, Quality
from mia_daemon.features.kernels import (
    bar,
    clock,
    cplx,
    cross,
    depth,
    dq,
    flow,
    l1_state,
    level,
    liq,
    ofi,
    ta,
    vol,
)

FAMILIES = (l1_state, depth, ofi, flow, vol, liq, cplx, ta, bar, level, clock, cross, dq)


def test_order_and_names_are_the_specifications(shared_dir):
    with (shared_dir / "features_350.csv").open(newline="", encoding="utf-8") as file:
        wanted = [(int(row["id"]), row["name"], row["family"]) for row in csv.DictReader(file)]
    assert [(f.index, f.name, f.family) for f in FEATURES] == wanted


def test_the_families_tile_the_350():
    end = 0
    for family in FAMILIES:
        assert end == family.FIRST, family
        assert {FEATURES[end + i].family for i in range(family.COUNT)} == {family.__name__.rpartition(".")[2]}
        end += family.COUNT
    assert end == len(FEATURES) == catalogue.COUNT == 350


def test_neutral_values_are_the_kernels():
    for family in FAMILIES:
        neutral = getattr(family, "NEUTRAL", np.zeros(family.COUNT))
        for i in range(family.COUNT):
            feature = FEATURES[family.FIRST + i]
            assert feature.neutral == neutral[i], feature.name


def test_every_row_is_filled():
    assert len({feature.name for feature in FEATURES}) == 350
    for feature in FEATURES:
        assert feature.unit, feature
        assert feature.formula, feature
        assert feature.source, feature
        assert feature.horizon, feature
        assert feature.inputs != Inputs(0), feature
        assert feature.warmup_s >= 0
        assert feature.warmup_s % 60 == 0
        assert 0 <= feature.warmup_days <= 60
        assert feature.low <= feature.neutral <= feature.high
        assert feature.low < feature.high
    assert catalogue.index("ofi_score") == 47
    assert "EW" in FEATURES[47].formula


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"no feature is called 'rsi_15': did you mean rsi_14 or rsi_14_5m"):
        catalogue.index("rsi_15")
    with pytest.raises(UsageError, match=r"no feature is called 'xyz': `mia-daemon features` lists them"):
        catalogue.index("xyz")


def test_the_inputs_of_a_quality():
    quality = Quality.NO_DEPTH | Quality.NO_SIZES | Quality.STALE | Quality.COLD
    assert catalogue.missing(quality) == Inputs.DEPTH | Inputs.SIZES
    assert catalogue.missing(Quality.GAP) == Inputs(0)
    assert catalogue.inputs_text(Inputs.DEPTH | Inputs.SIZES) == "depth+sizes"


def test_what_stays_neutral_without_an_input():
    assert catalogue.neutral_without(Inputs(0)) == ()
    assert set(catalogue.neutral_without(Inputs.REFERENCE)) == {f.name for f in FEATURES if f.family == "cross"}
    assert set(catalogue.neutral_without(Inputs.DEPTH)) == {
        f.name for f in FEATURES if f.family == "depth" or f.name.startswith(("mlofi", "iofi", "resil"))
    }
    assert "l1_imb" in catalogue.neutral_without(Inputs.SIZES)
    assert "mid" not in str(catalogue.neutral_without(Inputs.QUOTES))


@pytest.mark.parametrize(
    "change", [{"formula": "another"}, {"name": "x"}, {"neutral": 1.0}, {"unit": "s"}, {"high": 2.0}]
)
def test_the_hash_sees_every_definition(monkeypatch, change):
    before = catalogue.sha256()
    monkeypatch.setattr(catalogue, "FEATURES", (*FEATURES[:-1], replace(FEATURES[-1], **change)))
    assert catalogue.sha256() != before


def test_the_hash_sees_the_order(monkeypatch):
    before = catalogue.sha256()
    monkeypatch.setattr(catalogue, "FEATURES", (FEATURES[1], FEATURES[0], *FEATURES[2:]))
    assert catalogue.sha256() != before


def test_every_unit_says_what_it_means_in_another_product():
    units = [unit for units in catalogue.SCALES.values() for unit in units]
    assert len(units) == len(set(units))
    assert set(units) == {feature.unit for feature in catalogue.FEATURES}
    assert catalogue.FEATURES[catalogue.index("spread_ticks")].scale is catalogue.Scale.TICKS
