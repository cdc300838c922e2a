"""`ddm demo`: parses, starts the demo page's server, opens it."""

from __future__ import annotations

import argparse

from ddm_core.key_cli import add_passphrase_options, any_passphrase
from ddm_core.places import local_path
from ddm_core.verb_options import Verbs


def add_verb(verbs: Verbs) -> None:
    """Add the verb `demo` to a command line."""
    summary = "a page on this machine that encrypts a photo, sends it through a channel, and decrypts it"
    demo = verbs.add_parser("demo", help=summary, description=summary)
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--model", default="champion", metavar="MODEL",
        help="champion, NAME or NAME@ALIAS of the registry, or a model folder",
    )  # fmt: skip
    demo.add_argument(
        "--key", type=local_path, metavar="FILE", help="key file (a key that only the page has)"
    )
    add_passphrase_options(demo)
    demo.add_argument("--port", type=int, default=0, metavar="N", help="of 127.0.0.1 (any that is free)")
    demo.add_argument("--no-browser", action="store_true", help="print the address, open nothing")


def _demo(options: argparse.Namespace) -> None:
    import webbrowser

    from ddm_core.demo.server import address, open_server
    from ddm_core.demo.steps import Demonstration
    from ddm_core.key_files import read_key_ring
    from ddm_core.key_ring import KeyRing, MasterKey
    from ddm_core.keys import generate_key
    from ddm_core.photos.api import Vault
    from ddm_core.photos.model import load_model, model_folder

    if options.key:
        ring = read_key_ring(options.key, any_passphrase(options, options.key))
    else:
        ring = KeyRing((MasterKey(generate_key()),))
    with model_folder(options.model) as folder:
        vault = Vault(load_model(folder), ring)
    with open_server(Demonstration(vault, generate_key()), options.port) as server:
        print(f"{address(server)}: open it in a browser on this machine; Ctrl-C ends it", flush=True)
        if not options.no_browser:
            webbrowser.open(address(server))
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended; nothing was kept")
