"""A Kubernetes API server on loopback with Kubeflow Trainer, whose nodes are processes of this machine.

It takes a TrainJob that fits trainjob.schema.json and Trainer's own rules, and runs the command of each
node as a pod's container: with the variables of the job, of ConfigMaps and of Secrets, and with those by
which Trainer's torch runtime tells the nodes of each other.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jsonschema

SCHEMA = json.loads(Path(__file__).with_name("trainjob.schema.json").read_text())
JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/runs/trainjobs"
PODS = "/api/v1/namespaces/runs/pods"
TOKEN = "a-token-of-the-task"
RESERVED = "PET_"  # variables that belong to Trainer


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status, message):
        self.status, self.message = status, message


class KubernetesServer:
    """The server; `with` starts and stops it, and ends what runs. Its public attributes are the test's.

    `programs` has for a node's number the Python text that its container runs instead of its command;
    `backoff` says how often a container may be restarted; `hiccups` are statuses that the next requests get;
    `ended` has the pods of jobs that were deleted; `installed` says whether Trainer is there; `refusal` is
    what the next creation is refused with; so many of the next requests for logs `silent_logs` refuses;
    `before_log` is called once, with the pod, before the next of them is answered.
    """

    def __init__(self):
        self.config_maps, self.secrets = {}, {}
        self.programs, self.backoff = {}, 0
        self.hiccups, self.installed, self.refusal = [], True, None
        self.requests, self.created, self.jobs = [], [], {}
        self.ended = []
        self.silent_logs = 0
        self.before_log = None
        self.unschedulable = None
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        for job in self.jobs.values():
            job.stop()

    def write_kubeconfig(self, path):
        """Write a file that names this server, as kubectl has one."""
        address = f"http://127.0.0.1:{self._http.server_port}"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(content))

    def sent(self, verb):
        """What was asked for with this verb."""
        return [path for method, path in self.requests if method == verb]

    def answer(self, method, path, query, body):
        """Return the JSON or text of an answer."""
        if self.hiccups:
            raise RefusedError(self.hiccups.pop(0), "the server is being replaced")
        if path.startswith(JOBS) and not self.installed:
            raise RefusedError(404, "the server could not find the requested resource")
        if (method, path) == ("POST", JOBS):
            return self._create(json.loads(body))
        if path.startswith(f"{JOBS}/"):
            job = self._job(path.removeprefix(f"{JOBS}/"))
            if method == "DELETE":
                job.stop()
                self.ended += job.pods
                del self.jobs[job.name]
            return job.description()
        if (method, path) == ("GET", PODS):
            name = query["labelSelector"].removeprefix("jobset.sigs.k8s.io/jobset-name=")
            pods = self.jobs[name].pods if name in self.jobs else []
            return {"kind": "PodList", "apiVersion": "v1", "items": [pod.description() for pod in pods]}
        if method == "GET" and path.endswith("/log"):
            return self._log(path.removeprefix(f"{PODS}/").removesuffix("/log"), query)
        raise RefusedError(405, f"no route {method} {path}")

    def _create(self, manifest):
        if self.refusal:
            raise RefusedError(*self.refusal)
        _check(manifest)
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            raise RefusedError(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        self.created.append(manifest)
        self.jobs[name] = Job(self, manifest)
        return manifest

    def _job(self, name):
        if name not in self.jobs:
            raise RefusedError(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
        return self.jobs[name]

    def _log(self, name, query):
        found = [pod for job in self.jobs.values() for pod in job.pods if pod.name == name]
        if not found:
            raise RefusedError(404, f'pods "{name}" not found')
        if self.silent_logs:
            self.silent_logs -= 1
            raise RefusedError(502, "dial tcp 10.0.0.7:10250: connect: no route to host")
        before, self.before_log = self.before_log, None
        if before:
            before(found[0])
        return found[0].log(query)


class Job:
    """A TrainJob and its pods."""

    def __init__(self, server, manifest):
        self.name, self.manifest, self.server = manifest["metadata"]["name"], manifest, server
        trainer = manifest["spec"]["trainer"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {
            "PET_NNODES": trainer["numNodes"],
            "PET_NPROC_PER_NODE": trainer["numProcPerNode"],
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": port,
        }
        self.pods = [
            Pod(self, node, {**common, "PET_NODE_RANK": node}) for node in range(trainer["numNodes"])
        ]

    def stop(self):
        for pod in self.pods:
            pod.stop()

    def description(self):
        conditions = [{"type": "Suspended", "status": "False", "reason": "Resumed", "message": ""}]
        if all(pod.status == 0 for pod in self.pods):
            conditions.append({"type": "Complete", "status": "True", "reason": "JobsCompleted"})
        if any(pod.status for pod in self.pods):
            message = "jobset failed due to one or more job failures"
            conditions.append(
                {"type": "Failed", "status": "True", "reason": "FailedJobs", "message": message}
            )
            self.stop()
        return {**self.manifest, "status": {"conditions": conditions}}


class Pod:
    """A node's pod; its container is a process, restarted as often as the server says."""

    def __init__(self, job, node, trainer_variables):
        self.name, self.node, self.job = f"{job.name}-node-0-{node}-x7k2p", node, job
        self.status = self.last_status = self.ended = self.process = None
        self.restarts, self.lines, self.previous = 0, [], []
        self.trouble = None
        self._stopped = False
        if job.server.unschedulable:
            self.trouble = "unschedulable"
            return
        variables, missing = _resolved(job.manifest["spec"]["trainer"]["env"], job.server)
        if missing:
            self.trouble = missing
            return
        names = {str(name): str(value) for name, value in {**variables, **trainer_variables}.items()}
        own = ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "HOME", "TMPDIR", "NO_PROXY")
        self.environment = {name: os.environ[name] for name in own if name in os.environ} | names
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        program = self.job.server.programs.get(self.node)
        command = [sys.executable, "-u", "-c", program] if program else self._command()
        while True:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment
            )
            for line in self.process.stdout:
                self.lines.append((datetime.now(UTC), line.rstrip("\n")))
            status = self.process.wait()
            status = 128 - status if status < 0 else status
            self.ended = datetime.now(UTC)
            if self._stopped or status == 0 or self.restarts >= self.job.server.backoff:
                self.status = status
                return
            self.last_status, self.previous = status, self.lines
            self.restarts, self.lines = self.restarts + 1, []

    def _command(self):
        first, *rest = self.job.manifest["spec"]["trainer"]["command"]
        assert first == "python"
        return [sys.executable, *rest]

    def stop(self):
        self._stopped = True
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def log(self, query):
        assert query["container"] == "node"
        if self.process is None:
            raise RefusedError(400, f'container "node" in pod "{self.name}" is waiting to start')
        since = datetime.now(UTC) - timedelta(seconds=int(query.get("sinceSeconds", 10**6)))
        lines = self.previous if query.get("previous") in ("true", "True") else self.lines
        stamped = [f"{at:%Y-%m-%dT%H:%M:%S.%f}Z {line}\n" for at, line in lines if at >= since]
        return "".join(stamped)

    def description(self):
        ended = f"{self.ended:%Y-%m-%dT%H:%M:%SZ}" if self.ended else None
        state, last = {"running": {}}, {}
        if self.status is not None:
            state = {"terminated": {"exitCode": self.status, "finishedAt": ended}}
        if self.last_status is not None:
            last = {"terminated": {"exitCode": self.last_status, "finishedAt": ended}}
        phase = {None: "Running", 0: "Succeeded"}.get(self.status, "Failed")
        status = {"phase": phase, "conditions": [{"type": "PodScheduled", "status": "True"}]}
        if self.trouble == "unschedulable":
            reason = {"reason": "Unschedulable", "message": self.job.server.unschedulable}
            return self._described(
                {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", **reason}]}
            )
        if self.trouble:
            phase = status["phase"] = "Pending"
            state = {"waiting": {"reason": "CreateContainerConfigError", "message": self.trouble}}
        status["containerStatuses"] = [
            {
                "name": "node",
                "image": self.job.manifest["spec"]["trainer"]["image"],
                "imageID": "",
                "ready": False,
                "restartCount": self.restarts,
                "state": state,
                "lastState": last,
            }
        ]
        return self._described(status)

    def _described(self, status):
        labels = {
            "jobset.sigs.k8s.io/jobset-name": self.job.name,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(self.node),
        }
        return {
            "metadata": {"name": self.name, "namespace": "runs", "labels": labels},
            "spec": {"containers": [{"name": "node"}]},
            "status": status,
        }


def _check(manifest):
    """Refuse what the API server and Trainer's webhook refuse."""
    try:
        jsonschema.validate(manifest, SCHEMA)
    except jsonschema.ValidationError as error:
        raise RefusedError(422, f"TrainJob is invalid: {error.message}") from None
    reserved = [
        entry["name"] for entry in manifest["spec"]["trainer"]["env"] if entry["name"].startswith(RESERVED)
    ]
    if reserved:
        raise RefusedError(403, f"must not have reserved envs, invalid envs configured: {reserved}")
    for patch in manifest["spec"]["runtimePatches"]:
        for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            for container in job["template"]["spec"]["template"]["spec"].get("containers", []):
                if container["name"] == "node" and "env" in container:
                    raise RefusedError(403, "must not have envs for the node container")
    pod = f"{manifest['metadata']['name']}-node-0-{manifest['spec']['trainer']['numNodes'] - 1}-abcde"
    if len(pod) > 63:
        raise RefusedError(403, "JobSet name is too long, pod names generated will exceed 63 characters")


def _resolved(env, server):
    """Return a container's variables, and what keeps it from starting: a required key that is missing."""
    found, missing = {}, None
    sources = {"configMapKeyRef": server.config_maps, "secretKeyRef": server.secrets}
    for entry in env:
        ((field, reference),) = entry["valueFrom"].items()
        values = sources[field].get(reference["name"], {})
        if reference["key"] in values:
            found[entry["name"]] = values[reference["key"]]
        elif not reference["optional"]:
            missing = f"couldn't find key {reference['key']} in {reference['name']}"
    return found, missing


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self):
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            server.requests.append((self.command, parts.path))
            try:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise RefusedError(401, "Unauthorized")
                status, answer = 200, server.answer(self.command, parts.path, query, body)
            except RefusedError as error:
                status = error.status
                answer = {"kind": "Status", "status": "Failure", "message": error.message, "code": status}
            text = answer if isinstance(answer, str) else json.dumps(answer)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the name that http.server calls

        def log_message(self, *_):
            pass

    return Handler
