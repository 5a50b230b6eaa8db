"""Serve a model over HTTP, with a page for the browser.

clipwise serve runs/mine/best.safetensors                       http://127.0.0.1:8000, for this machine alone
clipwise serve runs/mine/best.safetensors --localizer runs/bmn/best.safetensors --port 9000
curl -F file=@video.mp4 http://127.0.0.1:8000/v1/predict
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from clipwise.cli.argument_types import count, positive
from clipwise.cli.common import add_cuda_graphs, with_cuda_graphs

_LIMIT_HELP = {
    "max_upload_mb": "size of a request's body in MB",
    "max_files": "videos in one request",
    "max_duration_s": "length of a video in seconds",
    "max_frames": "frames of a video",
    "max_pixels": "width times height of a video",
    "upload_timeout_s": "seconds that an upload may take",
    "idle_timeout_s": "seconds without data in a request",
    "decode_timeout_s": "seconds that the decoder may work on a file",
    "decode_memory_mb": "memory of the decoder process for a file, in MB",
    "request_timeout_s": "seconds that a video may take in all",
    "queue_length": "videos waiting or in progress; then 503",
    "per_client": "of them, videos of one client; then 429",
    "max_windows": "points of a timeline",
    "result_ttl_s": "seconds that a result can be fetched",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from clipwise.serve.limits import Limits

    parser.add_argument("checkpoint", help="a checkpoint, an exported model, or a name in the zoo")
    parser.add_argument("--localizer", metavar="CKPT", help="a localization checkpoint that finds the segments")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port (default 8000; 0 takes a free one)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name of the server, besides --host and localhost; * allows any",
    )
    parser.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="IP address or network of a proxy before the server; its X-Forwarded-For names the client "
        "(without it all clients of the proxy count as one)",
    )
    parser.add_argument("--allow-urls", action="store_true", help="fetch videos from public http(s) URLs")
    parser.add_argument("--allow-private-urls", action="store_true", help="fetch from private networks as well")
    parser.add_argument("--decoders", type=count, metavar="N", help="files decoded at once (default: cores, 2 to 8)")
    parser.add_argument("--max-batch", type=count, default=16, metavar="N", help="clips of a batch (default 16)")
    parser.add_argument("--window", type=positive, metavar="S", help="length of the timeline's windows in seconds")
    parser.add_argument("--threshold", type=float, default=0.5, help="score at which a segment begins (default 0.5)")
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), default="no", help="mixed precision (default no)")
    add_cuda_graphs(parser)
    parser.add_argument("--max-views", type=count, metavar="N", help="views that go through the network at once")
    parser.add_argument("--tmp", metavar="DIR", help="folder of uploads during the analysis")
    group = parser.add_argument_group("limits")
    for item in fields(Limits):
        option = "--" + item.name.replace("_", "-")
        kind = type(item.default)
        group.add_argument(
            option,
            type=kind,
            default=item.default,
            metavar="N",
            help=f"{_LIMIT_HELP[item.name]} (default {item.default:,})",
        )


def run(args: argparse.Namespace) -> int:
    from clipwise.cli.common import load_any
    from clipwise.errors import ClipwiseError
    from clipwise.serve.app import create_app
    from clipwise.serve.limits import Limits, Settings
    from clipwise.serve.running import bind, check_proxies, is_loopback, make_server

    if not 0 <= args.port <= 65535:
        raise ClipwiseError(f"--port {args.port}: a port is a number from 0 to 65535.")
    check_proxies(args.trusted_proxy)
    limits = Limits(**{item.name: getattr(args, item.name) for item in fields(Limits)})
    host = f"[{args.host}]" if ":" in args.host else args.host
    settings = Settings(
        limits=limits,
        allow_urls=args.allow_urls,
        allow_private_urls=args.allow_private_urls,
        hosts=("127.0.0.1", "localhost", "[::1]", host, *args.allow_host),
        max_batch=args.max_batch,
        window_s=args.window,
        threshold=args.threshold,
        folder=args.tmp,
        **({} if args.decoders is None else {"decoders": args.decoders}),
    )
    if args.tmp and not Path(args.tmp).is_dir():
        raise ClipwiseError(f"--tmp {args.tmp} is not a folder.")
    listener = bind(args.host, args.port)
    with listener:
        predictor = with_cuda_graphs(load_any(args.checkpoint, args.device, args.amp, args.max_views), args)
        localizer = None
        if args.localizer:
            from clipwise.serve.analysis import ServedLocalizer

            own = args.checkpoint if args.checkpoint.endswith(".safetensors") else None
            localizer = ServedLocalizer(args.localizer, own, predictor.classes, args.device)
        app = create_app(predictor, settings, localizer=localizer)
        server = make_server(app, limits, args.trusted_proxy)
        port = listener.getsockname()[1]
        if not is_loopback(args.host):
            print(
                f"clipwise serve: warning: {args.host} is reachable by other machines, and there is no authentication. "
                "Put a proxy with TLS and a login before it, or stay with 127.0.0.1.",
                file=sys.stderr,
            )
        print(
            f"Serving {app.state.server.model_name} on http://{host}:{port} (Ctrl-C ends it)",
            file=sys.stderr,
            flush=True,
        )
        server.run(sockets=[listener])
    return 0
