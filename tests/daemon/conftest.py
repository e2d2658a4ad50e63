"""What tests of the process and of what is looked at before its start share."""

import json
import shutil
from pathlib import Path

import pytest

from mia_daemon.model import bundle


@pytest.fixture
def approved(tmp_path):
    """Settings of the shipped bundle, as if it had been looked at and approved for live."""
    path = Path(shutil.copytree(bundle.shipped(), tmp_path / "approved"))
    manifest = json.loads((path / bundle.MANIFEST).read_text())
    (path / bundle.MANIFEST).write_text(json.dumps({**manifest, "research_only": False}))
    return {"bundle": str(path), "approved_bundles": [bundle.load(path).sha256]}
