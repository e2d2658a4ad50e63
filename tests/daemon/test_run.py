"""What a run is put together from."""

import hashlib
import json
import shutil
from pathlib import Path

from mia_daemon import config
from mia_daemon.clock import EventClock
from mia_daemon.config import Mode, VarPaths
from mia_daemon.daemon.run import DaemonRun
from mia_daemon.features.constants import FittedConstants
from mia_daemon.model import bundle
from mia_daemon.products.instruments import instrument


def test_the_features_run_with_the_constants_of_the_bundle(tmp_path):
    constants = FittedConstants(large_trade=7)
    path = Path(shutil.copytree(bundle.shipped(), tmp_path / "bundle"))
    (path / bundle.CONSTANTS).write_text(constants.model_dump_json())
    manifest = json.loads((path / bundle.MANIFEST).read_text())
    manifest["files"][bundle.CONSTANTS] = hashlib.sha256((path / bundle.CONSTANTS).read_bytes()).hexdigest()
    (path / bundle.MANIFEST).write_text(json.dumps(manifest))
    limits = dict.fromkeys(config.RiskSettings.model_fields, 1)
    chosen = config.parse({"risk": limits, "model": {"bundle": str(path)}}, "test", environ={})
    with DaemonRun(chosen, instrument("ESZ26_FUT_CME"), Mode.REPLAY, VarPaths(tmp_path / "var"), EventClock()) as run:
        assert run.pipeline.state().owner.constants_sha256 == constants.sha256
