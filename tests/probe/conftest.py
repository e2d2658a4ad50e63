"""Probes of servers that run in the test's own event loop."""

import importlib
import sys
from types import SimpleNamespace

import pytest
from rig import RISK

from mia_daemon import config
from mia_daemon.clock import WallClock
from mia_daemon.probe.run import probe

SYMBOL = "ESZ26_FUT_CME"


@pytest.fixture
def probing(tmp_path, monkeypatch):
    """`await probing(port, price=…)` probes with Sim1; the result has `said`, `verdicts`, and `text(code)`."""
    monkeypatch.setattr("mia_daemon.probe.link.SETTLE_S", 0.05)

    async def run(port, *, account="Sim1", price=None, patience_s=0.5, secrets=("", ""), **dtc):
        document = {
            "instrument": {"symbol": SYMBOL},
            "risk": RISK,
            "dtc": {"port": port, "request_timeout_s": patience_s, **dtc},
        }
        environ = dict(zip(("MIA_DTC_USERNAME", "MIA_DTC_PASSWORD"), secrets, strict=True))
        settings = config.parse(document, "the test's settings", environ=environ)
        said = []
        result = await probe(settings, account, tmp_path / "probe", WallClock(), said.append, price)
        findings = {finding.code: finding for finding in result.findings}
        return SimpleNamespace(
            said=said,
            verdicts={code: str(finding.verdict) for code, finding in findings.items()},
            texts={code: finding.text for code, finding in findings.items()},
            settings=result.settings,
            left=result.left,
            stopped=result.stopped,
            complete=result.complete,
            directory=result.directory,
        )

    return run


@pytest.fixture
def independent_server(shared_dir, monkeypatch, tmp_path):
    """`async with independent_server(habit=…) as (server, port):` a DTC server that is not the project's."""
    monkeypatch.syspath_prepend(str(shared_dir / "foreign_server"))
    module = importlib.import_module("server")
    yield lambda **habits: _Independent(module, habits, tmp_path / "server.jsonl")
    for name in ("server", "dtcwire"):
        sys.modules.pop(name, None)


class _Independent:
    def __init__(self, module, habits, log):
        self._module, self._habits, self._log = module, habits, log

    async def __aenter__(self):
        self._server = self._module.Server(self._module.Habits(**self._habits), self._log)
        await self._server.start(0)
        return self._server, self._server.srv.sockets[0].getsockname()[1]

    async def __aexit__(self, *_):
        await self._server.stop()
        self._server.log.close()
