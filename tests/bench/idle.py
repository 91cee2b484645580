"""10,000 subscribed clients that ping by themselves every 30 s, and nothing to send: share of a core."""

from tests.bench.load import loaded
from tests.bench.processes import bridge, metric, raise_file_limit
from tests.bench.report import Report, Spread
from tests.bench.servers import Server

CLIENTS = 10_000
PING_SECONDS = 30
SUBSCRIBE = '{"method":"state_stream.subscribe","params":["block_updates","metrics","network"],"id":1}'
MOST_PERCENT = 3


def main() -> None:
    """Measure and print."""
    clients = min(CLIENTS, raise_file_limit() - 256)
    with (
        Report("idle", rounds=3, seconds=30) as report,
        bridge("state", "--source", "none", "--listen", "127.0.0.1:0") as state,
        bridge("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0") as sidecar,
    ):
        server = Server(sidecar.pid, ("-p", sidecar.port, "-P", "/ws"))
        with loaded(server, clients, "-m", SUBSCRIBE, "--ping-every", str(PING_SECONDS), "--no-parse") as load:
            runs = [load.run(report.seconds, warm_up=3) for _ in range(report.rounds)]
            subscribers = metric(sidecar.addresses["http"], "theblock_bridge_upstream_subscribes_total")
        percent = Spread.of(run["server_util"] * 100 for run in runs)
        report.row(
            clients=clients, core_percent=percent, pongs_per_s=runs[-1]["messages"] / runs[-1]["secs"],
            server_pings_per_s=runs[-1]["pings"] / runs[-1]["secs"], kb_a_connection=load.opened["rss_per_conn_kb"],
            upstream_subscribes=round(subscribers),
        )  # fmt: skip
        report.target(f"{clients:,} idle clients", percent.median, MOST_PERCENT, "% of a core")


if __name__ == "__main__":
    main()
