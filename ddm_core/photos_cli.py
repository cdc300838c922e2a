"""`ddm encrypt` and `ddm decrypt`: parses, calls one function, prints its result."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.key_cli import add_passphrase_options, any_passphrase
from ddm_core.places import local_path, local_text
from ddm_core.verb_options import Verbs

if TYPE_CHECKING:
    from ddm_core.key_ring import KeyRing
    from ddm_core.photos.many import Job
    from ddm_core.photos.picture import Output

KEY_FILE_VARIABLE = "DDM_KEY_FILE"


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs `encrypt` and `decrypt` to a command line."""
    encrypt = _verb(verbs, "encrypt", "encrypt photos so that they decrypt after recompression and scaling")
    where = encrypt.add_mutually_exclusive_group()
    where.add_argument(
        "--regions", action="append", default=[], metavar="X,Y,W,H|FILE",
        help="encrypt only this box of the upright photo, or the boxes of a JSON file; may be repeated",
    )  # fmt: skip
    where.add_argument("--faces", action="store_true", help="encrypt only the faces (extra `faces`)")
    encrypt.add_argument(
        "--keep-metadata", action="store_true",
        help="seal the EXIF into the encrypted photo; without it all metadata is removed",
    )  # fmt: skip
    _verb(verbs, "decrypt", "decrypt photos that ddm encrypted, also after a photo site changed them")


def _verb(verbs: Verbs, name: str, summary: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=summary, description=summary)
    verb.set_defaults(run=_run, direction=name)
    verb.add_argument(
        "photos",
        type=local_text,
        nargs="+",
        metavar="PHOTO",
        help="file, folder, pattern, or - for standard input",
    )
    verb.add_argument(
        "-o",
        "--out",
        type=local_text,
        required=True,
        metavar="DIR",
        help="folder to write, or - for standard output",
    )
    verb.add_argument(
        "--key", type=local_path, metavar="FILE", help=f"key file (the environment's {KEY_FILE_VARIABLE})"
    )
    add_passphrase_options(verb)
    verb.add_argument(
        "--model",
        default="champion",
        metavar="MODEL",
        help="champion, NAME or NAME@ALIAS of the registry, or a model folder",
    )
    verb.add_argument("--format", default="png", choices=["png", "jpeg", "webp"], help="of the results (png)")
    verb.add_argument("--quality", type=int, default=95, metavar="N", help="of JPEG and WebP, 1 to 100 (95)")
    verb.add_argument("--force", action="store_true", help="overwrite what is there")
    verb.add_argument("--workers", type=int, metavar="N", help="processes (the available cores)")
    return verb


def _run(options: argparse.Namespace) -> None:
    from ddm_core.photos.boxes import parse_boxes
    from ddm_core.photos.many import Job
    from ddm_core.photos.model import model_folder
    from ddm_core.photos.picture import Output

    output = Output(options.format, options.quality)
    encrypting = options.direction == "encrypt"
    boxes = [box for text in options.regions for box in parse_boxes(text)] if encrypting else []
    ring = _read_ring(options)
    with model_folder(options.model) as folder:
        job = Job(
            options.direction, folder, ring, output, tuple(boxes),
            faces=encrypting and options.faces, keep_metadata=encrypting and options.keep_metadata,
            force=options.force,
        )  # fmt: skip
        if "-" in (*options.photos, options.out):
            _stream(job, options)
        else:
            _files(job, options, output)


def _read_ring(options: argparse.Namespace) -> KeyRing:
    from ddm_core.key_files import read_key_ring

    path = options.key or os.environ.get(KEY_FILE_VARIABLE)
    if not path:
        raise DdmError(f"no key: give --key FILE or set {KEY_FILE_VARIABLE}; make one: ddm key new FILE")
    return read_key_ring(Path(path), any_passphrase(options, Path(path)))


def _files(job: Job, options: argparse.Namespace, output: Output) -> None:
    from ddm_core.photos.folders import targets
    from ddm_core.photos.many import convert_many
    from ddm_core.photos.picture import SUFFIXES

    planned = targets(options.photos, Path(options.out), SUFFIXES[output.format])
    failures = convert_many(job, planned, options.workers)
    done = f"{job.direction}ed"
    if len(failures) == 1 == len(planned):
        raise DdmError(failures[0])
    for failure in failures:
        print(f"ddm: error: {failure}", file=sys.stderr)
    if failures:
        raise DdmError(
            f"{len(failures)} of {len(planned)} photos could not be {done}; the others are in {options.out}"
        )
    print(f"{options.out}: {len(planned)} photo{'s' if len(planned) > 1 else ''} {done}")


def _stream(job: Job, options: argparse.Namespace) -> None:
    """One photo, from or to a pipe."""
    from ddm_core.data.imaging import MAX_BYTES, read_photo
    from ddm_core.files import write_bytes
    from ddm_core.photos.folders import check_target
    from ddm_core.photos.many import PRIVATE, PUBLIC
    from ddm_core.photos.picture import SUFFIXES

    if len(options.photos) > 1:
        raise DdmError("- stands for one photo; give the others in a run of their own")
    source = options.photos[0]
    if source == "-":
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DdmError(f"standard input: larger than {MAX_BYTES >> 20} MiB; make it smaller")
    else:
        try:
            content = read_photo(Path(source))
        except DdmError as error:
            raise DdmError(f"{source}: {error}") from None
    target = Path(options.out) / f"stdin{SUFFIXES[job.output.format]}"
    if options.out != "-":
        check_target(Path(source), target, force=options.force)
    try:
        result = job.convert(content)
    except DdmError as error:
        raise DdmError(f"{'standard input' if source == '-' else source}: {error}") from None
    if options.out == "-":
        sys.stdout.buffer.write(result)
        return
    write_bytes(target, result, PRIVATE if job.direction == "decrypt" else PUBLIC)
    print(f"{target}: written")
