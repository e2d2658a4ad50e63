"""What is written of a conversation, and what is not."""

import json

import pytest

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import BINARY
from mia_daemon.errors import StartError
from mia_daemon.probe.transcript import TranscriptFile


@pytest.fixture
def transcript(tmp_path):
    file = TranscriptFile(tmp_path / "t.jsonl", ["hunter2", "", "ann"], "Sim1", "Pabc-")
    yield file
    file.close()


def written(tmp_path):
    return [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]


def test_other_accounts_leave_no_trace(transcript, tmp_path):
    for number, account in enumerate(("Sim1", "9911"), 1):
        answer = dtc.TradeAccountResponse(TradeAccount=account, MessageNumber=number, TotalNumberMessages=2)
        transcript.add(answer, "server", 1, BINARY)
    transcript.add(dtc.AccountBalanceUpdate(TradeAccount="9911", CashBalance=77_777.0), "server", 2, BINARY)
    transcript.add(dtc.PositionUpdate(TradeAccount="9911", Quantity=5.0), "server", 3, BINARY)
    transcript.add(dtc.UserMessage(UserMessage="9911 is on call"), "server", 4, BINARY)
    text = (tmp_path / "t.jsonl").read_text()
    assert "9911" not in text
    assert "77777" not in text
    assert transcript.left_out == 2
    assert written(tmp_path)[1]["TradeAccount"] == "(another account)"


def test_a_message_about_our_order_is_kept_however_the_account_is_spelled(transcript, tmp_path):
    for message in (
        dtc.OrderUpdate(ClientOrderID="Pabc-1L", ServerOrderID="7", TradeAccount="120005"),
        dtc.OrderUpdate(ClientOrderID="", ServerOrderID="7", TradeAccount="120005"),
        dtc.OrderUpdate(ClientOrderID="", ServerOrderID="8", TradeAccount="120005"),
    ):
        transcript.add(message, "server", 1, BINARY)
    assert [line["ServerOrderID"] for line in written(tmp_path)] == ["7", "7"]


def test_secrets_are_hidden_wherever_they_stand(transcript, tmp_path):
    transcript.add(dtc.LogonRequest(Username="ann", Password="hunter2", ClientName="d ann"), "client", 0, BINARY)
    transcript.add(dtc.Logoff(Reason="ann may not use hunter2"), "server", 0, BINARY)
    transcript.add(dtc.OrderUpdate(Username="SomebodyElse", TradeAccount="Sim1"), "server", 0, BINARY)
    text = (tmp_path / "t.jsonl").read_text()
    assert not any(secret in text for secret in ("ann", "hunter2", "SomebodyElse"))


def test_an_earlier_transcript_is_not_overwritten(transcript, tmp_path):
    with pytest.raises(StartError, match="File exists; name another directory with --out"):
        TranscriptFile(tmp_path / "t.jsonl", [], "Sim1", "P")


def test_a_line_is_on_file_before_the_message_is_sent(transcript, tmp_path):
    transcript.add(dtc.Heartbeat(), "client", 12, BINARY)
    assert written(tmp_path)[0]["AtMs"] == 12
