"""Tick to order: from a trade's bytes leaving another process to the order's bytes arriving there.

The daemon runs whole: real sockets, features, regime, policy, probability, risk, journal, logs, figures. Beside it, the
same bytes over the same kind of sockets to a process that only returns them: what is left after subtracting that is
ours. Trades come at random moments, so the daemon is found asleep, as a market finds it.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np

from benchmarks import alternating_bundle

PULSES = 1500
WARM_UP = 200  # first answers pay for caches and are left out
SHIPPED = Path(__file__).resolve().parent.parent / "etc" / "mia.toml"

ECHO = """
import asyncio, sys, uvloop
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)
    def connection_lost(self, exc): asyncio.get_running_loop().stop()
async def main():
    await asyncio.get_running_loop().create_connection(Echo, "127.0.0.1", int(sys.argv[1]))
    await asyncio.Event().wait()
try:
    uvloop.run(main())
except RuntimeError:
    pass
"""


def configuration(directory: Path, port: int) -> Path:
    """The shipped configuration, but for what makes every trade a decision and every decision an order."""
    document = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    document["feed"].update(source="dtc", max_event_age_s=0.0)
    document["dtc"]["port"] = port
    document["features"].update(decision_interval_s=0.001, warmup_s=0.0)
    document["model"].update(bundle=str(directory / "bundle"), max_out_of_range_share=1.0)
    document["decision"].update(min_hold_s=0.0, defensive_blocks_above=1.0)
    document["risk"].update(
        max_orders_per_minute=1_000_000,
        max_consecutive_losses=1_000_000,
        max_daily_loss=1e9,
        max_drawdown_share=1.0,
        max_price_age_s=86_400.0,
        max_messages_per_second="waived",
        max_messages_per_day="waived",
        max_executions="waived",
        max_price_jump_ticks="waived",
        max_decision_age_ms="waived",
    )
    path = directory / "bench.toml"
    path.write_text("\n".join(_toml(document)), encoding="utf-8")
    return path


def _toml(document: dict[str, dict[str, object]]) -> list[str]:
    lines = []
    for table, values in document.items():
        lines.append(f"[{table}]")
        lines += [f"{name} = {_value(value)}" for name, value in values.items()]
    return lines


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_value(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


def measure(kind: str, client: list[str], port_to_config: Path | None = None) -> dict[str, list[float] | float]:
    """Run a server and its client; what the server measured."""
    command = [sys.executable, "-m", "benchmarks.tick_server", kind, str(PULSES), "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        if port_to_config is not None:
            client = [*client, "--config", str(configuration(port_to_config, port))]
        else:
            client = [*client, str(port)]
        with subprocess.Popen(client, stdout=subprocess.DEVNULL) as peer:
            answer: dict[str, list[float] | float] = json.loads(server.stdout.readline())
            peer.terminate()
    return answer


def report(name: str, answer: dict[str, list[float] | float]) -> float:
    latencies = answer["latencies_us"]
    assert isinstance(latencies, list)
    values = np.array(latencies[WARM_UP:])
    p50, p99, p999 = np.percentile(values, [50, 99, 99.9])
    print(
        f"{name:<10} p50 {p50:6.0f} µs   p99 {p99:6.0f} µs   p99.9 {p999:6.0f} µs   "
        f"({len(values)} answers, {answer['unanswered']} without)"
    )
    return float(p50)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        alternating_bundle.write(directory / "bundle")
        daemon = [sys.executable, "-m", "mia_daemon", "--mode", "paper", "--quiet", "--var"]
        for round_ in (1, 2):
            echo = report(f"echo {round_}", measure("echo", [sys.executable, "-c", ECHO]))
            full = report(f"daemon {round_}", measure("dtc", [*daemon, str(directory / f"var-{round_}")], directory))
            print(f"{'':10} ours: {full - echo:.0f} µs at the median")


if __name__ == "__main__":
    main()
