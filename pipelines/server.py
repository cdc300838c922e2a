"""The connection to a Kubeflow Pipelines 2 API server."""

from __future__ import annotations

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
from pipelines.credentials import WAYS, Credential, find_credential
from pipelines.failures import CONNECT_SECONDS, READ_SECONDS, foreign_answer, login_page, refusal, unreached

if TYPE_CHECKING:
    from kfp_server_api import ApiClient

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
UI_VARIABLE = "KF_PIPELINES_UI_ENDPOINT"
IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"

TIMEOUTS = (CONNECT_SECONDS, READ_SECONDS)


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
        refuse_login_page(server, server.client.last_response.getheader("Content-Type"))
    return answer


def refuse_login_page(server: Server, content_type: str | None) -> None:
    """Raise a DdmError for HTML: a proxy may send its login page as success."""
    if "html" in (content_type or ""):
        raise login_page(server)


@contextmanager
def explained(server: Server, what: str) -> Iterator[None]:
    """Turn whatever the generated client raises inside the block into a one-line DdmError without secrets."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise refusal(server, what, error) from None
    except HTTPError as error:
        raise unreached(server, error) from None
    except (ValueError, TypeError, AttributeError):  # the answer does not fit the client's models
        raise foreign_answer(server, what) from None


def _in_cluster() -> str:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return IN_CLUSTER
    raise DdmError(f"no Kubeflow Pipelines server is named; pass --host URL or set {HOST_VARIABLE}")


def _address(host: str, option: str) -> str:
    if "@" in host:
        raise DdmError(f"{option}: holds a user name or a password; leave them out and {WAYS}")
    if not re.match(r"https?://", host):
        raise DdmError(f"{option} {host}: begins with neither http:// nor https://; write the whole URL")
    try:
        parts = urlsplit(host)
        name, _ = parts.hostname, parts.port
    except ValueError as error:
        raise DdmError(f"{option}: no URL ({error}); write it like https://kubeflow.example.org") from None
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
