import csv
from dataclasses import replace

import numpy as np
import pytest

from mia_daemon.errors import UsageError
from mia_daemon.features import catalogue
from mia_daemon.features.catalogue import FEATURES, Inputs
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
    assert catalogue.index("ofi_score") == 47
    assert "EW" in FEATURES[47].formula


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="no feature is called 'rsi_15'"):
        catalogue.index("rsi_15")


@pytest.mark.parametrize("change", [{"formula": "another"}, {"name": "x"}, {"neutral": 1.0}, {"unit": "s"}])
def test_the_hash_sees_every_definition(monkeypatch, change):
    before = catalogue.sha256()
    monkeypatch.setattr(catalogue, "FEATURES", (*FEATURES[:-1], replace(FEATURES[-1], **change)))
    assert catalogue.sha256() != before


def test_the_hash_sees_the_order(monkeypatch):
    before = catalogue.sha256()
    monkeypatch.setattr(catalogue, "FEATURES", (FEATURES[1], FEATURES[0], *FEATURES[2:]))
    assert catalogue.sha256() != before
