"""A Kubeflow Pipelines 2.17 API server on loopback, state in memory, that refuses what the real one would.

Every request body is held to kfp_server_api's models, every pipeline to KFP's own PipelineSpec, every run's
parameters to what its pipeline declares. What it refuses so is also kept in `faults`.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import yaml
from api_models import MalformedError, check_body
from argo import Node, Workflow
from google.protobuf.json_format import ParseDict, ParseError
from kfp.pipeline_spec import pipeline_spec_pb2

IMAGE = f"registry.example.org/ddm@sha256:{'a' * 64}"
"""A reference as a user passes it."""

PARAMETER_TYPES = {"STRUCT": dict, "LIST": list, "STRING": str, "BOOLEAN": bool, "NUMBER_INTEGER": int}


class ProxyError(Exception):
    """A proxy in between answers 502 with this page."""


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str):
        self.status, self.message = status, message


class KfpServer:
    """The server; `with` starts and stops it. Its public attributes are the test's to change.

    `speed` is how many pods end between two looks at a run; `hiccups` are answers to the next
    looks: a status, "drop", or the page of a proxy; `streams` says whether logs can be followed.
    """

    def __init__(self, certificate: Path | None = None):
        self.token: str | None = None
        self.cookie: str | None = None
        self.login: str | None = None  # without the cookie: "redirect" or "page"; or "https"
        self.namespaces: set[str] | None = None  # None: for one user
        self.failing: dict[str, str] = {}
        self.tells_errors = False
        self.speed = 20
        self.hiccups: list[Any] = []
        self.cancelled_at_look: int | None = None
        self.pod_names = "v2"
        self.pods_removed: bool | str = False  # all, or those of one task
        self.streams = False

        self.requests: list[tuple[str, str]] = []
        self.faults: list[str] = []
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.recurring: dict[str, dict[str, Any]] = {}
        self.workflows: dict[str, Workflow] = {}

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self.address = self.address.replace("http:", "https:")

    def __enter__(self) -> KfpServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def sent(self) -> list[str]:
        """What was asked for, without what only reads."""
        return [f"{method} {path}" for method, path in self.requests if method != "GET"]

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, content_type: str) -> Any:
        """Return the JSON answer to a request of the API."""
        for pattern, verb, action in _ROUTES:
            match = re.fullmatch(f"/apis/v2beta1/{pattern}", path)
            if match and verb == method:
                return action(self, *match.groups(), query=query, body=body, content_type=content_type)
        raise RefusedError(404, f"no route {method} {path}")

    def healthz(self, **_: Any) -> Any:
        return {"multi_user": self.namespaces is not None, "pipeline_store": "database"}

    def list_experiments(self, query: dict[str, str], **_: Any) -> Any:
        self._authorise(query.get("namespace", ""))
        found = [one for one in self.experiments.values() if one["namespace"] == query.get("namespace", "")]
        return {"experiments": _filtered(found, query), "total_size": len(found)}

    def create_experiment(self, body: bytes, **_: Any) -> Any:
        content = self._checked(body, "V2beta1Experiment")
        self._require(content.get("display_name"), "an experiment has a display_name")
        self._authorise(content.get("namespace", ""))
        return _keep(self.experiments, "experiment_id", {"namespace": "", **content})

    def get_pipeline_by_name(self, name: str, query: dict[str, str], **_: Any) -> Any:
        namespace = query.get("namespace", "")
        for pipeline in self.pipelines.values():
            if (pipeline["display_name"], pipeline["namespace"]) == (unquote_plus(name), namespace):
                return pipeline
        raise RefusedError(
            404, f"Failed to get pipeline by name: ResourceNotFoundError: Pipeline {name} not found"
        )

    def create_pipeline(self, body: bytes, **_: Any) -> Any:
        content = self._checked(body, "V2beta1Pipeline")
        self._require(content.get("display_name"), "a pipeline has a display_name")
        return _keep(self.pipelines, "pipeline_id", {"namespace": "", **content})

    def list_versions(self, pipeline: str, query: dict[str, str], **_: Any) -> Any:
        found = [one for one in self.versions.values() if one["pipeline_id"] == pipeline]
        return {"pipeline_versions": _filtered(found, query), "total_size": len(found)}

    def upload_version(self, query: dict[str, str], body: bytes, content_type: str, **_: Any) -> Any:
        form = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
        self._require(form.is_multipart(), "an upload is multipart")
        (part,) = form.get_payload()
        self._require(part.get_param("name", header="content-disposition") == "uploadfile", "no uploadfile")
        self._require(
            part.get_filename().endswith((".yaml", ".yml")), "the file's name does not end in .yaml"
        )
        self._require(query.get("pipelineid") in self.pipelines, "no such pipeline")
        names = [one["display_name"] for one in self.versions.values()]
        self._require(query["name"] not in names, f"version {query['name']} exists", status=409)
        spec = self._parse_pipeline(part.get_payload(decode=True))
        content = {"pipeline_id": query["pipelineid"], "display_name": query["name"], "pipeline_spec": spec}
        return _keep(self.versions, "pipeline_version_id", content)

    def get_version(self, pipeline: str, version: str, **_: Any) -> Any:
        """The real server keeps both documents of a pipeline with Kubernetes settings."""
        if version not in self.versions or self.versions[version]["pipeline_id"] != pipeline:
            raise RefusedError(404, f"Failed to get a pipeline version: {version} not found")
        found = self.versions[version]
        return {**found, "pipeline_spec": {"pipeline_spec": found["pipeline_spec"], "platform_spec": {}}}

    def create_run(self, body: bytes, **_: Any) -> Any:
        content = self._checked(body, "V2beta1Run")
        spec = self._check_start(content)
        return {**self.runs[self.begin(spec, content)], "state": "PENDING"}

    def begin(self, spec: dict[str, Any], content: dict[str, Any]) -> str:
        """Begin a run of a pipeline; return its id."""
        run = _keep(self.runs, "run_id", {**content, "created_at": "2026-01-02T03:04:05Z"})
        parameters = content["runtime_config"]["parameters"]
        name = f"{spec['pipelineInfo']['name']}-{run['run_id'][:5]}"
        workflow = Workflow(name, spec, parameters, self.failing, self.tells_errors)
        self.workflows[run["run_id"]] = workflow
        return str(run["run_id"])

    def get_run(self, run_id: str, **_: Any) -> Any:
        if self.hiccups:
            hiccup = self.hiccups.pop(0)
            if hiccup == "drop":
                raise ConnectionAbortedError
            if isinstance(hiccup, str):
                raise ProxyError(hiccup)
            raise RefusedError(hiccup, "upstream connect error")
        if run_id not in self.runs:
            raise RefusedError(404, f"Failed to get a run: ResourceNotFoundError: Run {run_id} not found.")
        workflow = self.workflows[run_id]
        looks = self.requests.count(("GET", f"/apis/v2beta1/runs/{run_id}"))
        if looks == self.cancelled_at_look:
            workflow.state = "CANCELED"
        for _step in range(self.speed):
            workflow.advance()
        over = workflow.state in ("SUCCEEDED", "FAILED", "CANCELED")
        finished = workflow.clock.strftime("%Y-%m-%dT%H:%M:%SZ") if over else "1970-01-01T00:00:00Z"
        details = {"task_details": workflow.details()}
        return {**self.runs[run_id], "state": workflow.state, "finished_at": finished, "run_details": details}

    def terminate_run(self, run_id: str, **_: Any) -> Any:
        if run_id not in self.runs:
            raise RefusedError(404, f"Failed to terminate a run: Run {run_id} not found.")
        self.workflows[run_id].state = "CANCELED"
        return {}

    def create_recurring_run(self, body: bytes, **_: Any) -> Any:
        content = self._checked(body, "V2beta1RecurringRun")
        self._check_start(content)
        self._require(1 <= int(content.get("max_concurrency", 0)) <= 10, "max_concurrency is not within 1-10")
        self._require(content.get("mode") == "ENABLE", "a new recurring run is enabled")
        cron = content["trigger"]["cron_schedule"]["cron"]
        self._require(len(cron.split()) == 6, f"cron {cron} has no field for seconds")
        return _keep(self.recurring, "recurring_run_id", content)

    def log(self, run_id: str, pod: str, follow: bool, write: Callable[[bytes], object]) -> None:
        """Write a pod's log; only a server that streams goes on until the pod ends."""
        workflow = self.workflows[run_id]
        name_of = workflow.pod_of if self.pod_names == "v2" else workflow.id_of
        node = next((one for one in workflow.nodes if one.template and name_of(one) == pod), None)
        if node is None or node.state is None or self._is_removed(node):
            raise RefusedError(500, f'Failed to read logs for run {run_id}: pods "{pod}" not found')
        write(f"{node.path.removeprefix(workflow.name)} begins — ".encode())
        while self.streams and follow and node.state == "RUNNING":
            workflow.advance()
            time.sleep(0.01)
        if node.state != "RUNNING":
            write(f"and {node.error or 'ends well'}\n".encode())

    def _is_removed(self, node: Node) -> bool:
        return self.pods_removed is True or f".{self.pods_removed}." in node.path

    def _check_start(self, content: dict[str, Any]) -> dict[str, Any]:
        """Hold what starts a run to what is here; return the pipeline's spec."""
        self._require(content.get("display_name"), "a run has a display_name")
        self._require(content.get("experiment_id") in self.experiments, "no such experiment")
        reference = content["pipeline_version_reference"]
        version = self.versions.get(reference["pipeline_version_id"])
        self._require(version and version["pipeline_id"] == reference["pipeline_id"], "no such version")
        declared = version["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        parameters = content["runtime_config"].get("parameters", {})
        for name, value in parameters.items():
            self._require(name in declared, f"the pipeline declares no parameter {name}")
            kind = PARAMETER_TYPES[declared[name]["parameterType"]]
            self._require(isinstance(value, kind), f"parameter {name} is no {kind.__name__}")
        required = {name for name, one in declared.items() if not one.get("isOptional")}
        self._require(required <= set(parameters), f"parameters are missing: {required - set(parameters)}")
        spec: dict[str, Any] = version["pipeline_spec"]
        return spec

    def _parse_pipeline(self, content: bytes) -> dict[str, Any]:
        try:
            spec, *platform = yaml.safe_load_all(content)
            ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
            for one in platform:
                ParseDict(one, pipeline_spec_pb2.PlatformSpec())
        except (yaml.YAMLError, ParseError) as error:
            self._require(False, f"not a pipeline: {error}")
        return dict(spec)

    def _authorise(self, namespace: str) -> None:
        if self.namespaces is None:
            self._require(not namespace, "In single-user mode, ListExperiments cannot filter by namespace.")
        elif not namespace:
            self._require(False, "In multi-user mode, a namespace is required.")
        elif namespace not in self.namespaces:
            quoted = f"Bearer {self.token}" if self.token else "nobody"
            raise RefusedError(403, f"{quoted} may not list experiments in {namespace}")

    def _checked(self, body: bytes, model: str) -> dict[str, Any]:
        """Return a body that is of the model, in names, types and enumerations, all the way down."""
        try:
            return check_body(body, model)
        except MalformedError as error:
            self._require(False, str(error))
            raise

    def _require(self, fine: Any, message: str, status: int = 400) -> None:
        if not fine:
            self.faults.append(message)
            raise RefusedError(status, f"Invalid input error: {message}")


_ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("healthz", "GET", KfpServer.healthz),
    ("experiments", "GET", KfpServer.list_experiments),
    ("experiments", "POST", KfpServer.create_experiment),
    (r"pipelines/names/([^/]+)", "GET", KfpServer.get_pipeline_by_name),
    ("pipelines", "POST", KfpServer.create_pipeline),
    (r"pipelines/([^/]+)/versions", "GET", KfpServer.list_versions),
    (r"pipelines/([^/]+)/versions/([^/]+)", "GET", KfpServer.get_version),
    ("pipelines/upload_version", "POST", KfpServer.upload_version),
    ("runs", "POST", KfpServer.create_run),
    (r"runs/([^/:]+)", "GET", KfpServer.get_run),
    (r"runs/([^/:]+):terminate", "POST", KfpServer.terminate_run),
    ("recurringruns", "POST", KfpServer.create_recurring_run),
]


def _keep(store: dict[str, dict[str, Any]], key: str, content: dict[str, Any]) -> dict[str, Any]:
    identifier = str(uuid.uuid4())
    store[identifier] = {**content, key: identifier}
    return store[identifier]


def _filtered(found: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    """The real server takes URL quoting off the filter a second time, so this one does."""
    if "filter" not in query:
        return found
    for predicate in json.loads(unquote_plus(query["filter"]))["predicates"]:
        assert predicate["operation"] == "EQUALS"
        found = [one for one in found if one[predicate["key"]] == predicate["string_value"]]
    return found


def _handler(server: KfpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms between its head and its body

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            server.requests.append((self.command, address.path))
            try:
                if self._is_known():
                    self._serve(address.path, query, body)
            except RefusedError as refusal:
                code = {404: 5, 403: 7, 401: 16, 400: 3}.get(refusal.status, 13)
                self._send(
                    refusal.status,
                    {"error": refusal.message, "code": code, "message": refusal.message, "details": []},
                )
            except ProxyError as page:
                self._send(502, str(page).encode(), "text/html")
            except ConnectionError:  # a hiccup, or the client has gone
                self.close_connection = True
            except Exception as error:  # a field that is missing or of a shape that nothing above foresees
                server.faults.append(f"{self.path}: {error!r}")
                self._send(400, {"code": 3, "message": repr(error)})

        do_POST = do_GET  # noqa: N815

        def _is_known(self) -> bool:
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                raise RefusedError(
                    401, f"Request header has no valid token: {self.headers.get('Authorization')}"
                )
            if server.login == "https" or (server.login and self.headers.get("Cookie") != server.cookie):
                if server.login != "page":
                    moved = f"{server.address.replace('http:', 'https:')}{self.path}"
                    page = "/dex/auth?client_id=kubeflow&state=hidden-state"
                    self.send_response(302)
                    self.send_header("Location", page if server.login == "redirect" else moved)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self._send(
                        200, b"<html><form>Log in to Your Account</form></html>", "text/html; charset=utf-8"
                    )
                return False
            return True

        def _serve(self, path: str, query: dict[str, str], body: bytes) -> None:
            match = re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", path)
            if not match:
                content_type = self.headers.get("Content-Type") or ""
                self._send(200, server.answer(self.command, path, query, body, content_type))
                return
            sent = False

            def write(text: bytes) -> None:
                nonlocal sent
                if not sent:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/plain")
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    sent = True
                self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))

            server.log(match[1], match[2], query.get("follow") == "true", write)
            self.wfile.write(b"0\r\n\r\n")

        def _send(self, status: int, content: Any, content_type: str = "application/json") -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
