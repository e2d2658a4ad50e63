"""What every test may use: the real market data beside the project (skipped where absent), compiled kernels' cache."""

from pathlib import Path

import daemon_process
import hypothesis
import pytest
import trustme

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"

pytest_plugins = ("rig",)  # fixtures to trade with

hypothesis.settings.register_profile("any machine", deadline=None)  # no test fails for being slow
hypothesis.settings.load_profile("any machine")

_FORK_SERVER = pytest.StashKey[daemon_process.ForkServer]()


def pytest_collection_modifyitems(items):
    """Files with real processes are the longest: first, so that no worker is left with one of them at the end."""
    long = {item.path for item in items if "fork_server" in item.fixturenames}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish(session):
    """Compile or load the kernels once, before the first test and outside the time any test has."""
    if session.config.option.collectonly or not any("fork_server" in item.fixturenames for item in session.items):
        return
    session.config.stash[_FORK_SERVER] = server = daemon_process.ForkServer()
    server.prepare()


def pytest_unconfigure(config):
    if (server := config.stash.get(_FORK_SERVER, None)) is not None:
        server.close()


@pytest.fixture(scope="session")
def fork_server(request):
    """A process that has all imported and the kernels loaded, to fork daemons from."""
    server = request.config.stash[_FORK_SERVER]
    assert server.prepared, "the kernels can't be compiled or loaded: run tests/daemon_process.py to see why"
    return server


@pytest.fixture
def daemons(tmp_path, fork_server):
    """Starts daemons that write below `tmp_path`; none outlives the test."""
    with daemon_process.daemons_in(tmp_path, fork_server) as started:
        yield started


def shared_file(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data not present: {path} (it lies beside the project, not in it)")
    return path


@pytest.fixture(scope="session")
def mnq_scid() -> Path:
    """48,737 records written by Sierra Chart."""
    return shared_file("data", "scid", "MNQU21-CME.scid")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"reference material not present: {SHARED} (it lies beside the project, not in it)")
    return SHARED


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Of the authority, and of the server that it vouches for."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(directory / "server.crt")
    issued.private_key_pem.write_to_path(directory / "server.key")
    return directory
