"""Headers of the runs that tests record in a journal."""

from mia_daemon.journal.run_header import InstrumentRates, RunBundle, RunConfig, RunHeader


def run_header(started_ns=1, mode="paper", *, config=None, bundle=None, rates=(50.0, 2.0), files=None):
    return RunHeader(
        mode=mode,
        started_ns=started_ns,
        version="",
        config=RunConfig(config or {}, ""),
        bundle=bundle or run_bundle(),
        rates=InstrumentRates(*rates),
        files=files or {},
    )


def run_bundle(name="", sha256="", catalogue_sha256="", shown=None):
    return RunBundle(name=name, sha256=sha256, catalogue_sha256=catalogue_sha256, shown=shown or {})
