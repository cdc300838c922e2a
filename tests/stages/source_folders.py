"""Folders as people hold them, for `ddm fetch`."""

import json

from ddm_core.data.raw import Region, Rejected
from ddm_core.data.regions import write_regions, write_rejected


def raw_folder(root):
    """A raw folder as fetch lays one of FaceScrub, with LFW's people beside it."""
    (root / "anna").mkdir(parents=True)
    (root / "anna/1.jpg").write_bytes(b"a photo")
    (root / "protocol").mkdir()
    (root / "protocol/people.txt").write_text("1\n1\nanna\t1\n")
    about = {"source": "facescrub", "credit": "Ng, Winkler", "licence": "for research"}
    (root / "source.json").write_text(json.dumps(about))
    (root / "facescrub_people.tsv").write_text("person\tlisted\nanna\t2\n")
    write_regions(root, {"anna/1.jpg": Region(box=(1.0, 2.0, 3.0, 4.0))})
    write_rejected(root, [Rejected("anna/2.jpg", "torn; take another")])
    return root


def lfw_folder(root):
    """Three people as LFW has them."""
    for name, photos in (("Anna_Lee", 2), ("Bo_Chen", 1), ("Zoe", 2)):
        (root / name).mkdir(parents=True)
        for number in range(1, photos + 1):
            (root / name / f"{name}_{number:04}.jpg").write_bytes(f"{name} {number}".encode())
    (root / "Zoe" / "Anna_Lee_0001.jpg").write_bytes(b"in the wrong folder")
    return root
