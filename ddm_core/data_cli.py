"""`ddm data VERB`: parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
import math
import re

from ddm_core.places import RemotePlace, local_path, place
from ddm_core.verb_options import Verbs

UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `data` and its own verbs to a command line."""
    summary = "get the images of a published list; publish a dataset to S3"
    parser = verbs.add_parser("data", help=summary, description=summary)
    inner = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    summary = "download what is listed and not there yet"
    fetch = inner.add_parser("fetch", help=summary, description=summary)
    _add_facescrub(fetch.add_subparsers(title="datasets", metavar="DATASET", required=True))
    summary = "publish a folder that a stage wrote to S3; run again to go on"
    publish = inner.add_parser("publish", help=summary, description=summary)
    publish.set_defaults(run=_publish)
    publish.add_argument("folder", type=local_path, metavar="FOLDER", help="such as data/prepared")
    publish.add_argument("place", type=_remote, metavar="s3://BUCKET/PREFIX", help="where nothing else lies")


def _add_facescrub(datasets: Verbs) -> None:
    summary = "FaceScrub's images, politely; run again to go on"
    parser = datasets.add_parser("facescrub", help=summary, description=summary)
    parser.set_defaults(run=_fetch_facescrub)
    parser.add_argument(
        "--list",
        type=local_path,
        nargs="+",
        required=True,
        metavar="FILE",
        dest="lists",
        help="facescrub_actors.txt, facescrub_actresses.txt",
    )
    parser.add_argument("--out", type=local_path, required=True, metavar="DIR", help="folder of the images")
    parser.add_argument(
        "--concurrency", type=_count, default=8, metavar="N", help="requests at a time (8); 2 at most a host"
    )
    parser.add_argument(
        "--timeout",
        type=_positive,
        default=20.0,
        metavar="SECONDS",
        help="for an answer to begin or go on (20)",
    )
    parser.add_argument(
        "--retries", type=_count_or_none, default=3, metavar="N", help="after failures that may pass (3)"
    )
    parser.add_argument(
        "--max-bytes",
        type=_bytes,
        default="20MB",
        metavar="SIZE",
        help="of one image, as 20MB or 500kB (20MB)",
    )
    parser.add_argument(
        "--rate", type=_positive, default=4.0, metavar="N", help="requests a second at one host, at most (4)"
    )
    parser.add_argument(
        "--report",
        type=local_path,
        metavar="FILE",
        help="dead links and why, tab-separated (DIR/dead_links.tsv)",
    )
    parser.add_argument(
        "--allow-private-hosts", action="store_true", help="also connect to private and loopback addresses"
    )


def _fetch_facescrub(options: argparse.Namespace) -> None:
    from ddm_core.data.downloads import REPORT_NAME, DownloadSettings, download_all, write_dead_links
    from ddm_core.data.facescrub import listed_downloads

    downloads, malformed = listed_downloads(options.lists)
    settings = DownloadSettings(
        concurrency=options.concurrency,
        timeout=options.timeout,
        retries=options.retries,
        max_bytes=options.max_bytes,
        rate=options.rate,
    )
    admits = (lambda address: True) if options.allow_private_hosts else None
    result = download_all(downloads, options.out, settings, admits=admits)
    report = options.report or options.out / REPORT_NAME
    write_dead_links(report, result.dead_links)
    print(
        f"{options.out}: {result.fetched} images fetched, {result.present} were there, "
        f"{result.dead} cannot be had ({report} says why), {malformed} bad lines in the lists"
    )


def _publish(options: argparse.Namespace) -> None:
    from ddm_core.staging import publish

    result = publish(options.folder, options.place)
    print(
        f"{options.place}: {result.sent} objects sent, {result.kept} were there, {result.bytes} bytes in all"
    )


def _remote(text: str) -> RemotePlace:
    where = place(text)
    if isinstance(where, RemotePlace):
        return where
    raise argparse.ArgumentTypeError(f"{text!r} is no address; write s3://bucket/prefix")


def _count(text: str) -> int:
    return _number_of(text, r"[1-9][0-9]{0,2}", "a whole number from 1 to 999")


def _count_or_none(text: str) -> int:
    return _number_of(text, r"[0-9]{1,2}", "a whole number from 0 to 99")


def _number_of(text: str, pattern: str, expected: str) -> int:
    if re.fullmatch(pattern, text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _bytes(text: str) -> int:
    parts = re.fullmatch(r"([1-9][0-9]{0,11}) *([kmg]b)?", text.lower())
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 20MB, 500kB or 1000000")
    return int(parts[1]) * UNITS[parts[2] or ""]
