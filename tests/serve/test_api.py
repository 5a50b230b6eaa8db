"""The HTTP API, over a real socket."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from serving import CLASSES, Brightness, start_server

import clipwise
from clipwise.serve.api_errors import CODES
from clipwise.serve.app import create_app
from clipwise.serve.limits import Limits, Settings


def check(value, schema, document, where="answer") -> None:
    """A value against the part of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        errors = []
        for option in schema["anyOf"]:
            try:
                return check(value, option, document, where)
            except AssertionError as error:
                errors.append(str(error))
        raise AssertionError("; ".join(errors))
    if "enum" in schema:
        assert value in schema["enum"], f"{where}: {value!r}"
    kind = schema.get("type")
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    if kind == "null":
        assert value is None, f"{where}: {value!r} is not null"
    elif kind:
        assert isinstance(value, types[kind]), f"{where}: {value!r} is not {kind}"
    if kind == "number":
        assert schema.get("minimum", -np.inf) <= value <= schema.get("maximum", np.inf), f"{where}: {value}"
    if kind == "object":
        assert set(schema.get("required", ())) <= set(value), f"{where} lacks {set(schema['required']) - set(value)}"
        if schema.get("additionalProperties") is False:
            assert set(value) <= set(schema["properties"]), f"{where} has {set(value) - set(schema['properties'])}"
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                check(value[name], inner, document, f"{where}.{name}")
    if kind == "array":
        for i, item in enumerate(value):
            check(item, schema["items"], document, f"{where}[{i}]")


def test_a_video_gets_its_classes_timeline_and_segments(server, videos):
    status, _, answer = server.send_form([("levels.mp4", (videos / "levels.mp4").read_bytes())], "window_s=0.5")
    assert status == 200
    check(answer, {"$ref": "#/components/schemas/Results"}, server.app.openapi())
    (result,) = answer["results"]
    assert result["source"] == "levels.mp4"
    assert result["video"]["duration_s"] == 6.0
    assert result["video"]["num_frames"] == 150
    assert [(s["class"]) for s in result["segments"]] == ["dark", "bright", "dark"]
    borders = [s["start_s"] for s in result["segments"]] + [result["segments"][-1]["end_s"]]
    assert np.allclose(borders, [0, 2, 4, 6], atol=0.3)
    timeline = result["timeline"]
    assert (timeline["window_s"], timeline["stride_s"]) == (0.48, 0.24)  # whole frames: 12 and 6 of 25 a second
    assert timeline["windows"][0]["start_s"] == 0
    assert timeline["windows"][-1]["end_s"] == 6.0
    for window in timeline["windows"]:
        if window["end_s"] < 1.9 or window["start_s"] > 4.1:
            assert window["predictions"][0]["class"] == "dark"
        elif window["start_s"] > 2.1 and window["end_s"] < 3.9:
            assert window["predictions"][0]["class"] == "bright"
    assert all(len(curve["scores"]) == len(timeline["windows"]) for curve in timeline["curves"])


def test_scores_are_those_of_predict(tmp_path, videos):
    torch = pytest.importorskip("torch")
    from clipwise.engine.checkpoint import Passport, save_weights
    from clipwise.infer.predictor import load
    from clipwise.recipe import load_recipe

    torch.manual_seed(0)
    model = clipwise.create_model("tsm_tiny", num_classes=4)
    recipe = load_recipe("tsm_tiny").model_dump()
    passport = Passport("tsm_tiny", {"num_classes": 4}, classes=list("abcd"), recipe=recipe)
    save_weights(tmp_path / "model.safetensors", model.state_dict(), passport)
    predictor = load(tmp_path / "model.safetensors", "cpu")
    expected = predictor(videos / "levels.mp4").top(4)
    from clipwise.serve.analysis import Analyzer, Options
    from clipwise.serve.batching import BatchQueue
    from clipwise.serve.decoders import DecoderPool

    batches = BatchQueue(predictor)
    batches.start()
    pool = DecoderPool(1, Limits())
    try:
        with pool.open(videos / "levels.mp4", "levels.mp4", threading.Event()) as reader:
            result = Analyzer(predictor, batches)(reader, Options(topk=4))
    finally:
        pool.close()
        batches.close()
    assert [(p["class"], p["score"]) for p in result["predictions"]] == [(name, round(s, 5)) for name, s in expected]


def test_the_body_may_be_the_file_itself(server, videos):
    status, _, answer = server.send((videos / "bright.mp4").read_bytes(), "topk=1", name="mine.mp4")
    assert status == 200
    assert answer["results"][0]["source"] == "mine.mp4"
    assert [p["class"] for p in answer["results"][0]["predictions"]] == ["bright"]


def test_several_files_each_have_a_result_or_an_error(server, videos):
    good = (videos / "bright.mp4").read_bytes()
    status, _, answer = server.send_form([("a.mp4", good), ("b.mp4", b"not a video at all"), ("c.mp4", good)])
    assert status == 200
    check(answer, {"$ref": "#/components/schemas/Results"}, server.app.openapi())
    first, second, third = answer["results"]
    assert first["predictions"][0]["class"] == third["predictions"][0]["class"] == "bright"
    assert second["source"] == "b.mp4"
    assert second["error"]["code"] == "not_a_video"


def test_jobs_are_asked_for_and_forgotten(server, videos):
    status, headers, job = server.send_form([("a.mp4", (videos / "levels.mp4").read_bytes())], "async=1")
    assert status == 202
    assert headers["Location"] == f"/v1/jobs/{job['id']}"
    until = time.monotonic() + 90
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < until
        assert 0 <= job["progress"] <= 1
        time.sleep(0.02)
        job = server.call(f"/v1/jobs/{job['id']}")[2]
    check(job, {"$ref": "#/components/schemas/Job"}, server.app.openapi())
    assert job["state"] == "done"
    assert job["progress"] == 1
    status, headers, text = server.call(f"/v1/jobs/{job['id']}/segments.srt")
    assert status == 200
    assert headers.get_content_type() == "application/x-subrip"
    assert text.startswith("1\n00:00:00,000 --> 00:00:0")
    assert text.count(" --> ") == len(job["results"][0]["segments"]) == 3
    assert server.call(f"/v1/jobs/{job['id']}", method="DELETE")[0] == 204
    status, _, answer = server.call(f"/v1/jobs/{job['id']}")
    assert (status, answer["error"]["code"]) == (404, "unknown_job")


def test_subtitles_at_once(server, videos):
    status, _, text = server.send((videos / "levels.mp4").read_bytes(), "format=srt")
    assert status == 200
    assert "bright (" in text


def test_options_are_checked(server, videos):
    data = (videos / "bright.mp4").read_bytes()
    for query, word in (
        ("topk=0", "topk"),
        ("top=3", "unknown option 'top'"),
        ("window_s=nan", "window_s"),
        ("format=xml", "format"),
    ):
        status, _, answer = server.send(data, query)
        assert (status, answer["error"]["code"]) == (400, "bad_request"), query
        assert word in answer["error"]["message"]


def test_the_openapi_document_describes_every_route(server):
    status, _, document = server.call("/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.1")
    routes = {(r.path, m) for r in server.app.routes for m in r.methods if m != "HEAD"}
    page = {("/", "GET"), ("/page.css", "GET"), ("/page.js", "GET")}
    described = {(path, m.upper()) for path, methods in document["paths"].items() for m in methods}
    assert described == routes - page
    operations = {each["operationId"] for methods in document["paths"].values() for each in methods.values()}
    # what functions of generated clients are called since 0.1
    assert operations == {"predict", "getJob", "cancelJob", "getSegments", "getModel", "health", "metrics", "openapi"}

    def refs(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if "$ref" in value else []
            for inner in value.values():
                yield from refs(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from refs(inner)

    assert {r.rsplit("/", 1)[1] for r in refs(document)} <= set(document["components"]["schemas"])
    assert "application/json" not in document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    fetching = create_app(Brightness(), Settings(allow_urls=True)).openapi()
    assert "application/json" in fetching["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    statuses = {str(status) for status, _ in CODES.values()}
    assert statuses - {"404", "405", "409"} <= set(document["paths"]["/v1/predict"]["post"]["responses"])


def test_model_health_and_metrics(server, videos):
    status, _, model = server.call("/v1/model")
    assert status == 200
    check(model, {"$ref": "#/components/schemas/Model"}, server.app.openapi())
    assert model["classes"] == CLASSES
    assert server.call("/healthz")[2]["status"] == "ok"
    server.send((videos / "bright.mp4").read_bytes())
    text = server.call("/metrics")[2]
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(samples['clipwise_videos_total{outcome="done"}']) >= 1
    assert float(samples['clipwise_requests_total{method="POST",route="/v1/predict",status="200"}']) >= 1
    assert samples['clipwise_video_seconds_bucket{le="+Inf"}'] == samples["clipwise_video_seconds_count"]
    assert float(samples["clipwise_queue_length"]) == 0


def test_every_answer_has_the_security_headers(server):
    for path in ("/", "/page.js", "/v1/model", "/nowhere"):
        _, headers, _ = server.call(path)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Access-Control-Allow-Origin"] is None
        assert headers["Server"] is None


def test_eight_clients_at_once_get_the_answer_of_one(server, videos):
    data = (videos / "levels.mp4").read_bytes()
    alone = server.send(data)[2]["results"][0]
    server.predictor.batches.clear()
    server.predictor.delay_s = 0.02
    try:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: server.send(data), range(8)))
    finally:
        server.predictor.delay_s = 0.0
    assert [status for status, _, _ in answers] == [200] * 8
    for _, _, answer in answers:
        (result,) = answer["results"]
        assert {**result, "seconds": 0} == {**alone, "seconds": 0}
    assert sum(server.predictor.batches) == 8 * (1 + len(alone["timeline"]["windows"]))


def test_a_full_queue_says_when_to_come_back(videos):
    data = (videos / "bright.mp4").read_bytes()
    for limits, status, code in (
        (Limits(queue_length=2), 503, "queue_full"),
        (Limits(per_client=2), 429, "too_many_requests"),
    ):
        running, stop = start_server(limits)
        try:
            running.predictor.gate.clear()
            jobs = [running.send(data, "async=1")[2]["id"] for _ in range(2)]
            answered, headers, answer = running.send(data)
            assert (answered, answer["error"]["code"]) == (status, code)
            assert int(headers["Retry-After"]) >= 1
            assert running.call("/healthz")[0] == 200
            running.predictor.gate.set()
            for job in jobs:
                while running.call(f"/v1/jobs/{job}")[2]["state"] != "done":
                    time.sleep(0.02)
            assert running.send(data)[0] == 200
        finally:
            stop()


def test_a_job_that_takes_too_long_is_ended(videos):
    running, stop = start_server(Limits(request_timeout_s=3))
    try:
        running.predictor.gate.clear()  # the network hangs
        status, _, answer = running.send((videos / "levels.mp4").read_bytes())
        assert (status, answer["error"]["code"]) == (504, "timeout")
        running.predictor.gate.set()
        until = time.monotonic() + 60
        while running.send((videos / "bright.mp4").read_bytes())[0] != 200:
            assert time.monotonic() < until
    finally:
        stop()


def test_uploads_do_not_stay_on_the_disk(server, videos):
    server.send((videos / "bright.mp4").read_bytes())
    server.send(b"not a video")
    server.send_form([("a.mp4", b"x"), ("b.mp4", b"")])
    until = time.monotonic() + 60
    folder = server.app.state.server.folder
    while any(folder.iterdir()):
        assert time.monotonic() < until, list(folder.iterdir())
        time.sleep(0.02)


def test_the_command_serves(tmp_path, videos):
    """``clipwise serve`` in a process of its own, from its first line to Ctrl-C."""
    import re
    import signal
    import subprocess
    import sys
    import urllib.request

    import torch

    from clipwise.engine.checkpoint import Passport, save_weights
    from clipwise.recipe import load_recipe

    torch.manual_seed(0)
    model = clipwise.create_model("tsm_tiny", num_classes=2)
    passport = Passport("tsm_tiny", {"num_classes": 2}, classes=["a", "b"], recipe=load_recipe("tsm_tiny").model_dump())
    save_weights(tmp_path / "m.safetensors", model.state_dict(), passport)
    command = [
        sys.executable,
        "-m",
        "clipwise",
        "serve",
        str(tmp_path / "m.safetensors"),
        "--port",
        "0",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None, line
        until = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(url[0] + "/healthz", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
        headers = {"Content-Type": "video/mp4"}
        request = urllib.request.Request(url[0] + "/v1/predict", (videos / "bright.mp4").read_bytes(), headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert {p["class"] for p in json.load(answer)["results"][0]["predictions"]} == {"a", "b"}
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=120)[1]
    assert process.returncode in (0, 130)
    assert "Traceback" not in rest


def test_wrong_options_of_the_command(capsys, tmp_path):
    from clipwise.cli import main

    for words, message in (
        (["--trusted-proxy", "proxy.local"], "give the proxy's IP address (10.0.0.5) or its network"),
        (["--port", "99999"], "a port is a number from 0 to 65535"),
        (["--queue-length", "0"], "must be greater than 0"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--allow-private-urls"], "has no effect without --allow-urls"),
        (["--tmp", str(tmp_path / "none")], "is not a folder"),
        (["--port", "0"], "does not exist"),
    ):
        assert main(["serve", str(tmp_path / "none.safetensors"), *words]) == 2, words
        assert message in capsys.readouterr().err


def test_flow_models_are_refused():
    from clipwise.errors import ClipwiseError
    from clipwise.serve.app import create_app

    predictor = Brightness()
    predictor.spec = replace(predictor.spec, modality="flow")
    with pytest.raises(ClipwiseError, match="serve an RGB model"):
        create_app(predictor)
