from mia_daemon.risk.codes import ALLOWED, LATCHING, Latch, RiskCode, Verdict, markdown_table


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
