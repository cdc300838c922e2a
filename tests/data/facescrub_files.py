"""FaceScrub's lists and images as people hold them, in small."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

HEADER = "name\timage_id\tface_id\turl\tbbox\tsha256"
ANNA, BEN = "Anna Lee", "Ben O'Hara"


@dataclass(frozen=True)
class Listed:
    """A line of a list and the image that it is about."""

    name: str
    image_id: int
    face_id: int
    content: bytes
    box: str = "10,20,30,60"
    url: str = ""

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def address(self):
        return self.url or f"http://photos.example/{self.image_id}.jpg"

    @property
    def line(self):
        ids = f"{self.image_id}\t{self.face_id}"
        return f"{self.name}\t{ids}\t{self.address}\t{self.box}\t{self.sha256}"


def jpeg(shade):
    """A JPEG file of 64 x 80 pixels that differs from shade to shade (0..255)."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 80), (shade, 128, 255 - shade)).save(buffer, format="JPEG")
    return buffer.getvalue()


SHARED = jpeg(3)
ACTORS = (Listed(BEN, 11, 101, jpeg(1)), Listed(BEN, 12, 102, jpeg(2), "5.5,6,20,40"))
ACTRESSES = (Listed(ANNA, 21, 201, SHARED), Listed(ANNA, 21, 202, SHARED, "0,0,8,8"))
FACES = (*ACTORS, *ACTRESSES)


def write_list(path, rows):
    """Write Listed rows, or lines as they are, under the header; return the path."""
    lines = [row if isinstance(row, str) else row.line for row in rows]
    path.write_text("\n".join([HEADER, *lines, ""]), newline="")
    return path


def write_lists(folder):
    """Write both lists; return their paths."""
    return [
        write_list(folder / "facescrub_actors.txt", ACTORS),
        write_list(folder / "facescrub_actresses.txt", ACTRESSES),
    ]


def underscored(name):
    return name.replace(" ", "_")


def sha1(text):
    return hashlib.sha1(text.encode()).hexdigest()


NAMINGS = {
    "sha256": lambda row: f"{row.sha256}.jpg",
    "sha256 in folders": lambda row: f"{row.sha256[:2]}/{row.sha256}.jpeg",
    "name, image and face": lambda row: f"{row.name}/{row.name}_{row.image_id}_{row.face_id}.jpg",
    "underscored name, image and face": lambda row: (
        f"{underscored(row.name)}/{underscored(row.name)}_{row.image_id}_{row.face_id}.JPG"
    ),
    "image below its kind": lambda row: (
        f"actors/images/{underscored(row.name)}/{underscored(row.name)}_{row.image_id}.jpeg"
    ),
    "flat": lambda row: f"{underscored(row.name)}_{row.image_id}.jpg",
    "ids": lambda row: f"{row.name}/{row.image_id}_{row.face_id}.jpg",
    "image id": lambda row: f"{row.name.upper()}/{row.image_id}.jpg",
    "image id in a folder below the person": lambda row: f"{underscored(row.name)}/images/{row.image_id}.jpg",
    "digest of the address": lambda row: f"{underscored(row.name)}/{sha1(row.address)}.jpg",
    "face id": lambda row: f"FaceScrub/{underscored(row.name)}/{underscored(row.name)}_{row.face_id}.png",
    "without a suffix": lambda row: f"{underscored(row.name)}/{underscored(row.name)}_{row.image_id}",
    "faces": lambda row: f"faces/{row.name}/{row.name}_{row.image_id}_{row.face_id}.jpg",
}


def lay(folder, rows, naming):
    """Write the rows' images into `folder` under the names that `naming` gives; return the folder."""
    for row in rows:
        path = folder / naming(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row.content)
    return folder
