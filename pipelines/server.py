"""The connection to a Kubeflow Pipelines 2.x API server, and what to tell people when it fails."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ddm_core.errors import DdmError
from pipelines.credentials import WAYS, Credential, find_credential, mask_secret

if TYPE_CHECKING:
    from kfp_server_api import ApiClient, ApiException
    from urllib3.exceptions import HTTPError

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
UI_VARIABLE = "KF_PIPELINES_UI_ENDPOINT"
IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"

CONNECT_SECONDS = 10
READ_SECONDS = 60
TIMEOUTS = (CONNECT_SECONDS, READ_SECONDS)


class NotFoundError(DdmError):
    """The server answers, but has not what was asked for."""


class TransientError(DdmError):
    """The server cannot be reached or fails for the moment: asking again may help."""


@dataclass(frozen=True)
class Server:
    """Where the server is, who asks, and the generated client that asks. Made by `connect`."""

    address: str
    ui: str
    namespace: str | None
    credential: Credential
    client: ApiClient

    def run_url(self, run: str) -> str:
        """Return the page of a run in the Kubeflow UI."""
        return f"{self.ui}/#/runs/details/{run}"


def connect(
    host: str | None = None,
    *,
    ui_host: str | None = None,
    namespace: str | None = None,
    token_file: Path | None = None,
    cookie_file: Path | None = None,
    ca_file: Path | None = None,
) -> Server:
    """Return a server to ask; nothing is sent yet.

    Without `host`: the variable KF_PIPELINES_ENDPOINT, or inside a cluster the service of Kubeflow.

    Raises:
        DdmError: no host or a malformed one; an unreadable token, cookie or CA file.
    """
    import urllib3
    from kfp_server_api import ApiClient, Configuration

    address = _address(host or os.environ.get(HOST_VARIABLE) or _in_cluster(), "--host")
    ui = ui_host or os.environ.get(UI_VARIABLE)
    credential = find_credential(token_file, cookie_file)

    configuration = Configuration(host=address)
    # No redirect is followed: it would carry the token elsewhere, or bring back a login page as success.
    configuration.retries = urllib3.Retry(total=0, raise_on_redirect=False)
    configuration.ssl_ca_cert = _certificates(ca_file) if ca_file else None
    cookie = None
    if credential.kind == "token":
        configuration.api_key = {"authorization": credential.read()}
        configuration.api_key_prefix = {"authorization": "Bearer"}
        configuration.refresh_api_key_hook = lambda settings: settings.api_key.update(
            authorization=credential.read()
        )
    elif credential.kind == "cookie":
        cookie = credential.read()
    return Server(
        address=address,
        ui=_address(ui, "--ui-host") if ui else address,
        namespace=namespace,
        credential=credential,
        client=ApiClient(configuration, cookie=cookie),
    )


def call(server: Server, method: Callable[..., Any], *arguments: Any, what: str, **keywords: Any) -> Any:  # noqa: ANN401 - the generated client is untyped
    """Call a method of the generated client; `what` names in words what is asked for.

    Raises:
        DdmError: the server cannot be reached, refuses or fails; one line without secrets.
    """
    with explained(server, what):
        answer = method(*arguments, _request_timeout=TIMEOUTS, **keywords)
        content_type = server.client.last_response.getheader("Content-Type") or ""
        refuse_login_page(server, content_type)
        if "json" not in content_type:
            raise foreign_answer(server, what)
    return answer


def refuse_login_page(server: Server, content_type: str | None) -> None:
    """Raise a DdmError for HTML: a proxy may send its login page as success."""
    if "html" in (content_type or ""):
        raise _login_page(server)


@contextmanager
def explained(server: Server, what: str) -> Iterator[None]:
    """Turn whatever the generated client raises inside the block into a one-line DdmError without secrets."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise _refusal(server, what, error) from None
    except HTTPError as error:
        raise _unreached(server, error) from None
    except (ValueError, TypeError, AttributeError):  # the answer does not fit the client's models
        raise foreign_answer(server, what) from None


def foreign_answer(server: Server, what: str) -> DdmError:
    """Return the error for an answer that no Kubeflow Pipelines server gives."""
    return DdmError(
        f"{server.address}: its answer about {what} is not that of Kubeflow Pipelines 2; see that --host is "
        "right"
    )


def _in_cluster() -> str:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return IN_CLUSTER
    raise DdmError(f"no Kubeflow Pipelines server is named; pass --host URL or set {HOST_VARIABLE}")


def _address(host: str, option: str) -> str:
    if not re.match(r"https?://", host):
        raise DdmError(f"{option} {host}: begins with neither http:// nor https://; write the whole URL")
    try:
        parts = urlsplit(host)
        name, _ = parts.hostname, parts.port
    except ValueError as error:
        raise DdmError(f"{option}: no URL ({error}); write it like https://kubeflow.example.org") from None
    if parts.username or parts.password:
        raise DdmError(f"{option}: holds a user name or a password; leave them out and {WAYS}")
    if not name:
        raise DdmError(f"{option} {host}: names no host; write it like https://kubeflow.example.org")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def _certificates(ca_file: Path) -> str:
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise DdmError(f"--ca-file {ca_file}: holds no certificate; expected a PEM file") from None
    except OSError as error:
        raise DdmError(f"--ca-file {ca_file}: cannot be read ({error.strerror})") from None
    return str(ca_file)


def _refusal(server: Server, what: str, error: ApiException) -> DdmError:
    """The server answered, with a status that is no success."""
    status, headers = int(error.status), error.headers or {}
    if status == 0:  # the client could not read a success
        return foreign_answer(server, what)
    if 300 <= status < 400:
        return _redirect(server, headers.get("Location") or "")
    if status == 401:
        return _unauthorised(server)
    if "html" in (headers.get("Content-Type") or "") and status != 404 and status < 500:
        return _login_page(server)
    return _failure(server, what, status, _message(server, error.body))


def _failure(server: Server, what: str, status: int, said: str) -> DdmError:
    """The server itself answered, and said why."""
    if status == 403:
        where = f"namespace {server.namespace}" if server.namespace else "this server, without --namespace"
        return DdmError(
            f"{server.address}: you may not use {what} in {where} (403): {said}; ask for access, or name "
            "another namespace"
        )
    if status == 404:
        return NotFoundError(f"{server.address}: has no {what} (404); see that it and --host are right")
    kind = TransientError if status >= 500 or status == 429 else DdmError
    return kind(f"{server.address}: failed on {what} ({status}): {said}")


def _unauthorised(server: Server) -> DdmError:
    if server.credential.kind == "none":
        return DdmError(f"{server.address}: wants to know who asks (401); {WAYS}")
    kind, source = server.credential.kind, server.credential.source
    return DdmError(f"{server.address}: refused the {kind} of {source} (401); it is wrong or has expired")


def _redirect(server: Server, location: str) -> DdmError:
    """Only the redirect's host is told: the rest of a login address may hold a secret."""
    target = urlsplit(location)
    if target.scheme == "https" and server.address.startswith("http:") and "/apis/" in target.path:
        return DdmError(f"{server.address}: moved to https; pass --host https{server.address[4:]}")
    return _login_page(server)


def _login_page(server: Server) -> DdmError:
    if server.credential.kind == "none":
        return DdmError(
            f"{server.address}: answers with a login page; pass --cookie-file with the session cookie of Dex "
            "(authservice_session=… or oauth2_proxy_kubeflow=…) or --token-file, or mend --host"
        )
    return DdmError(
        f"{server.address}: answers with a login page, so the {server.credential.kind} of "
        f"{server.credential.source} is wrong or has expired, or --host is wrong (is /pipeline missing?)"
    )


def _message(server: Server, body: str | None) -> str:
    """The server's own words in one line, wherever its two kinds of error put them."""
    try:
        content = json.loads(body or "")
        text = content.get("message") or content.get("error_message") or content.get("error") or ""
    except (ValueError, AttributeError):
        text = re.sub(r"<[^>]*>", " ", body or "")  # a proxy's error page
    line = " ".join(re.sub(r"[^\x20-\x7e\u00a0-\U0010ffff]", " ", str(text)).split()) or "it does not say why"
    return mask_secret(line[:300], server.credential)


def _unreached(server: Server, error: HTTPError) -> DdmError:
    """No answer came."""
    from urllib3 import exceptions

    reason = getattr(error, "reason", None) or error
    if isinstance(reason, exceptions.SSLError):
        return _untrusted(server, str(reason))
    if isinstance(reason, exceptions.NameResolutionError):
        what = "there is no host of that name; see that --host is right and the network (VPN) is up"
    elif isinstance(reason, exceptions.NewConnectionError):
        cause = re.search(r"\[Errno -?\d+\] ([^)'\"]+)", str(reason))
        why = cause[1].lower() if cause else "no connection"
        what = f"cannot be reached ({why}); see that it runs and that --host is right"
    elif isinstance(reason, exceptions.ConnectTimeoutError):
        what = f"does not answer within {CONNECT_SECONDS} s; see that --host is right and the network is up"
    elif isinstance(reason, exceptions.ReadTimeoutError):
        what = f"took the request and did not answer within {READ_SECONDS} s"
    else:
        what = "the connection broke off; see that --host is right and speaks http or https as it says"
    return TransientError(f"{server.address}: {what}")


def _untrusted(server: Server, reason: str) -> DdmError:
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason:
        return DdmError(f"{server.address}: does not speak TLS; write http:// in place of https://")
    if "mismatch" in reason or "doesn't match" in reason:
        return DdmError(f"{server.address}: its certificate is for another host name; mend --host")
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return DdmError(
            f"{server.address}: its TLS certificate is not trusted; pass --ca-file with its CA's PEM file"
        )
    return DdmError(f"{server.address}: no TLS connection could be made; mend --host or its certificate")
