"""Load on a local server: several clients that send videos without a pause; no request may be lost.

python benchmarks/serve.py CHECKPOINT VIDEO… [--clients 8] [--seconds 60] [--json FILE]

Starts ``clipwise serve`` on a free port of 127.0.0.1, sends the videos round and round from every client over kept-alive
connections, and prints latencies as a client sees them (upload, queue, decoding in a process of its own, network,
answer). A request counts as lost if it is answered by anything but 200 and a result, or not at all.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, proportional where pages are shared; Linux only."""
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(memory_mb(int(child)) for child in (task / "children").read_text().split())
    except (OSError, ValueError):
        pass
    return total


class Client(threading.Thread):
    """Sends one video after the other until the time is over."""

    def __init__(self, port: int, videos: list[Path], start: int, until: float):
        super().__init__(daemon=True)
        self.port, self.until, self.start_at = port, until, start
        self.videos = [(path.name, path.read_bytes()) for path in videos]
        self.seconds: list[float] = []
        self.lost: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        number = self.start_at
        while time.monotonic() < self.until:
            name, data = self.videos[number % len(self.videos)]
            number += 1
            started = time.monotonic()
            try:
                connection.request("POST", "/v1/predict", data, {"Content-Type": "application/octet-stream"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
                if answer.status != 200 or not content["results"][0]["predictions"]:
                    self.lost.append(f"{name}: {answer.status} {content}")
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.lost.append(f"{name}: {error!r}")
                connection.close()
            self.seconds.append(time.monotonic() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="options for clipwise serve (last)")
    args = parser.parse_args()
    command = [sys.executable, "-m", "clipwise", "serve", args.checkpoint, "--port", "0", *args.serve]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            sys.exit(f"the server did not start: {line}{server.stderr.read()}")
        port = int(found[1])
        threading.Thread(target=server.stderr.read, daemon=True).start()
        wait_until_healthy(port)
        before = memory_mb(server.pid)
        until = time.monotonic() + args.seconds
        clients = [Client(port, args.videos, i, until) for i in range(args.clients)]
        started = time.monotonic()
        for client in clients:
            client.start()
        peak = before
        while any(client.is_alive() for client in clients):
            peak = max(peak, memory_mb(server.pid))
            time.sleep(0.5)
        took = time.monotonic() - started
        metrics = get(port, "/metrics")
        healthy = '"ok"' in get(port, "/healthz")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    seconds = np.array([s for client in clients for s in client.seconds])
    lost = [text for client in clients for text in client.lost]
    samples = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line and not line.startswith("#"))
    batches = float(samples["clipwise_batch_size_count"])
    figures = {
        "clients": args.clients,
        "seconds": round(took, 1),
        "cpus": os.cpu_count(),
        "requests": len(seconds),
        "lost": len(lost),
        "requests_per_s": round(len(seconds) / took, 2),
        "latency_s": {f"p{p}": round(float(np.percentile(seconds, p)), 3) for p in (50, 90, 95, 99)}
        | {"max": round(float(seconds.max()), 3)},
        "clips_per_batch": round(float(samples["clipwise_batch_size_sum"]) / batches, 2),
        "memory_mb": {"before": round(before), "peak": round(peak)},
        "healthy_afterwards": healthy,
    }
    print(json.dumps(figures, indent=2))
    for text in lost[:10]:
        print("lost:", text[:300], file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if lost or not healthy else 0


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def wait_until_healthy(port: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            if '"ok"' in get(port, "/healthz"):
                return
        except OSError:
            pass
        if time.monotonic() > until:
            sys.exit("the server did not become healthy.")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
