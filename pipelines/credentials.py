"""How a user proves who they are to a Kubeflow Pipelines server: a bearer token or a session cookie."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddm_core.errors import DdmError

TOKEN_VARIABLE = "KF_PIPELINES_TOKEN"
COOKIE_VARIABLE = "KF_PIPELINES_COOKIE"
SERVICE_ACCOUNT_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"

WAYS = f"pass --token-file or --cookie-file, or set {TOKEN_VARIABLE} or {COOKIE_VARIABLE}"


@dataclass(frozen=True)
class Credential:
    """A token, a cookie or nothing; `source` says in words where it comes from. Never prints the secret."""

    kind: Literal["token", "cookie", "none"]
    source: str
    file: Path | None = None
    value: str = field(default="", repr=False)

    def read(self) -> str:
        """Return the secret. A file is read anew each time, for the kubelet rotates projected tokens.

        Raises:
            DdmError: the file cannot be read, or its content is no token or cookie.
        """
        return _checked(self.kind, self.source, _content(self.file, self.source) if self.file else self.value)


def find_credential(token_file: Path | None = None, cookie_file: Path | None = None) -> Credential:
    """Return the first there is: a file given, the environment, the pod's service account, none.

    Raises:
        DdmError: what was found cannot be read or is no token or cookie.
    """
    credential = _first(token_file, cookie_file)
    if credential.kind != "none":
        credential.read()
    return credential


def mask_secret(text: str, credential: Credential) -> str:
    """Return `text` with every part of the secret that stands in it replaced by ***."""
    secret = credential.read() if credential.kind != "none" else ""
    values = [cookie.partition("=")[2] for cookie in re.split(r"[;\s]+", secret)]
    for part in sorted({secret, *values}, key=len, reverse=True):
        if len(part) > 3:  # a cookie's flags are shorter
            text = text.replace(part, "***")
    return text


def _first(token_file: Path | None, cookie_file: Path | None) -> Credential:
    if token_file:
        return Credential("token", f"--token-file {token_file}", file=token_file)
    if cookie_file:
        return Credential("cookie", f"--cookie-file {cookie_file}", file=cookie_file)
    if os.environ.get(TOKEN_VARIABLE):
        return Credential("token", f"the variable {TOKEN_VARIABLE}", value=os.environ[TOKEN_VARIABLE])
    if os.environ.get(COOKIE_VARIABLE):
        return Credential("cookie", f"the variable {COOKIE_VARIABLE}", value=os.environ[COOKIE_VARIABLE])
    service_account = Path(os.environ.get(SERVICE_ACCOUNT_VARIABLE) or SERVICE_ACCOUNT_TOKEN)
    if service_account.exists():
        return Credential("token", f"the service account in {service_account}", file=service_account)
    return Credential("none", "nowhere")


def _content(file: Path, source: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise DdmError(
            f"{source}: cannot be read ({error.strerror}); name a file that you may read"
        ) from None
    except UnicodeDecodeError:
        raise DdmError(f"{source}: is not text; name the right file") from None


def _checked(kind: str, source: str, content: str) -> str:
    """A line break or a foreign letter would end up in an HTTP error that quotes the secret."""
    secret = content.strip()
    if kind == "token" and not re.fullmatch(r"[!-~]+", secret):
        raise DdmError(f"{source}: holds no token; expected one line without spaces")
    if kind == "cookie" and not re.fullmatch(r"[!-~]+=[ -~]+", secret):
        raise DdmError(f"{source}: holds no cookie; expected NAME=VALUE, such as authservice_session=…")
    return secret
