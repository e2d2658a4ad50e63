import ast
from pathlib import Path

import pytest

from mia_daemon.risk import controls
from mia_daemon.risk.codes import ALLOWED, HALTING, LATCHING, Latch, RiskCode, Verdict, markdown_table
from mia_daemon.risk.controls import CONTROLS, proofs_of

TESTS = Path(__file__).resolve().parent.parent


def test_every_code_says_what_it_means():
    for code in RiskCode:
        assert code.meaning
        assert RiskCode(str(code)) is code


def test_a_verdict_reads_as_code_and_facts():
    verdict = Verdict(RiskCode.ORDER_SIZE, {"contracts": 3, "limit": 2})
    assert str(verdict) == "order_size contracts=3 limit=2"
    assert not verdict.allowed
    assert ALLOWED.allowed


def test_the_table_has_a_row_for_each_code_and_marks_those_that_latch():
    table = markdown_table()
    rows = {line.split("`")[1]: line for line in table.splitlines()[2:]}
    assert set(rows) == {code.value for code in RiskCode}
    assert {code for code, line in rows.items() if "`mia-daemon r" in line} == {code.value for code in LATCHING}


def test_a_latch_says_when_why_and_what_to_do():
    text = Latch(RiskCode.DAILY_LOSS, 1_790_000_000_000_000_000, {"result": -1500.0}).text
    assert "2026-09-21T" in text
    assert "result=-1500.0" in text
    assert "mia-daemon resume" in text


def names_in(path):
    """The names of the tests of a file below tests/."""
    return {
        node.name
        for node in ast.parse((TESTS / path).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("code", list(RiskCode))
def test_each_code_names_a_test_that_is_there_and_speaks_of_it(code):
    path, _, name = code.test.partition("::")
    assert name in names_in(path)
    assert f"RiskCode.{code.name}" in (TESTS / path).read_text()


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_each_control_is_proven_by_a_test_that_is_there(control):
    assert proofs_of(control)
    for test in proofs_of(control):
        path, _, name = test.partition("::")
        assert (TESTS / path).is_file()
        assert not name or name in names_in(path), test


def test_no_control_of_the_list_is_missing_and_no_code_is_without_one():
    ids = [control.id for control in CONTROLS]
    wanted = [*(f"P{n}" for n in range(1, 19)), *(f"A{n}" for n in range(1, 9)), "A10", "T1", "T2", "T3", "G1"]
    assert ids == wanted
    named = {code for control in CONTROLS for code in control.codes}
    assert set(RiskCode) - named == {RiskCode.OK, RiskCode.NOT_REDUCING, RiskCode.UNPROTECTED}  # ours, beyond the list
    for code in named:
        in_text = code.meaning.rpartition("(")[2].rstrip(")").split(", ")
        told = [control.id for control in CONTROLS if code in control.codes]
        assert in_text[0] in told, code


def test_what_halts_is_latched():
    assert HALTING <= LATCHING
    assert RiskCode.OK not in LATCHING
    assert controls.markdown_table().count("\n") == len(CONTROLS) + 1
