"""1,000 subscribed clients with nothing to send: share of a core, and upstream subscriptions."""

import urllib.request

from tests.bench.processes import bridge, result, wsload

CLIENTS = 1000
SECONDS = 30
SUBSCRIBE = '{"method":"state_stream.subscribe","params":["block_updates","metrics","network"],"id":1}'


def main() -> None:
    """Measure and print."""
    with (
        bridge("state", "--source", "none", "--listen", "127.0.0.1:0") as state,
        bridge("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0") as sidecar,
    ):
        load = wsload(
            "-p", sidecar.port, "-P", "/ws", "-n", str(CLIENTS), "-m", SUBSCRIBE, "-w", "3", "-d", str(SECONDS),
            "-W", str(sidecar.pid), "--no-parse",
        )  # fmt: skip
        report = result(load)
        subscribers = metric(sidecar.addresses["http"], "theblock_bridge_upstream_subscribes_total")
    print(f"{report['open']} clients, {report['secs']:.0f} s: {report['server_util']:.2%} of a core (at most 1 %)")
    print(f"upstream Subscribe calls: {subscribers:.0f} (1 whatever the number of clients)")
    print(f"memory: {report['rss_per_conn_kb']:.1f} KB a connection")


def metric(url: str, name: str) -> float:
    """Return a metric of a process."""
    with urllib.request.urlopen(f"{url}/metrics") as response:
        for line in response.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    return float("nan")
