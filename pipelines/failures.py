"""What to tell people when a Kubeflow Pipelines server cannot be reached, refuses or fails: one line each."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ddm_core.errors import DdmError
from pipelines.credentials import WAYS, mask_secret

if TYPE_CHECKING:
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    from pipelines.server import Server

CONNECT_SECONDS = 10
READ_SECONDS = 60


class NotFoundError(DdmError):
    """The server answers, but has not what was asked for."""


class TransientError(DdmError):
    """The server cannot be reached or fails for the moment: asking again may help."""


def foreign_answer(server: Server, what: str) -> DdmError:
    """Return the error for an answer that no Kubeflow Pipelines server gives."""
    return DdmError(
        f"{server.address}: its answer about {what} is not that of Kubeflow Pipelines 2; see that --host is "
        "right"
    )


def refusal(server: Server, what: str, error: ApiException) -> DdmError:
    """Return the error for an answer whose status is no success."""
    status, headers = int(error.status), error.headers or {}
    if status == 0:  # the client could not read a success
        return foreign_answer(server, what)
    if 300 <= status < 400:
        return _redirect(server, headers.get("Location") or "")
    if status == 401:
        return _unauthorised(server)
    if "html" in (headers.get("Content-Type") or "") and status != 404 and status < 500:
        return login_page(server)
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
    """A login page's address is not told: it may hold a secret."""
    target, asked = urlsplit(location), urlsplit(server.address)
    if (asked.scheme, target.scheme, target.hostname) == ("http", "https", asked.hostname) and (
        target.path.startswith(f"{asked.path}/apis/")
    ):
        return DdmError(f"{server.address}: moved to https; pass --host https{server.address[4:]}")
    return login_page(server)


def login_page(server: Server) -> DdmError:
    """Return the error for a page that a proxy wants people to log in at."""
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
    return mask_secret(line, server.credential)[:300]


def unreached(server: Server, error: HTTPError) -> DdmError:
    """Return the error for a request that got no answer."""
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
