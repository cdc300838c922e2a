"""Whatever lies in a folder of photos is read, or named with one reason; nothing is lost, nothing hangs."""

import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy
import pytest
from bad_files import COMPOSED, DECOMPOSED, JPEG, PHOTOS, PNG, REJECTED, SIDE, OddFile, bytes_of, lay, picture
from PIL import Image
from unprivileged import as_nobody, open_folder

from ddm_core.data.imaging import decode, open_photo, read_photo
from ddm_core.data.raw import Rejected
from ddm_core.data.sources import list_files, list_photos
from ddm_core.errors import DdmError

pytestmark = pytest.mark.timeout(60)  # a pipe that is waited for would never end
PHOTO_BESIDE = OddFile(f"zoe/{COMPOSED}.jpg", bytes_of(JPEG))


def account(root):
    """Return relative path -> pixels or reason, as the stage that prepares photos finds them."""
    listing = list_files(root)
    found = {file.relative: file.reason for file in listing.rejected}
    for photo in listing.photos:
        try:
            found[photo.relative] = decode(
                read_photo(root / photo.relative), image_size=SIDE, channels=3, square="crop"
            )
        except DdmError as error:
            found[photo.relative] = str(error)
    assert len(found) == len(listing.photos) + len(listing.rejected)
    return found


def shown(relative):
    """A relative path as it can be written in one line."""
    return relative.replace("\n", "\\n").replace("\udcff", "\\udcff")


@pytest.mark.parametrize("file", PHOTOS, ids=lambda file: file.relative)
def test_an_odd_photo_is_read_upright_and_in_its_colours(tmp_path, file):
    for one in {file, PHOTOS[2]}:
        lay(tmp_path / "raw", one)
    pixels = account(tmp_path / "raw")[file.relative]
    expected = numpy.asarray(picture()).transpose(2, 0, 1).astype(int)
    difference = abs(pixels - expected)
    assert numpy.median(difference) <= 8
    assert (difference > 30).mean() < 0.05  # compression rings at the edges between colours


@pytest.mark.parametrize("file", REJECTED, ids=lambda file: shown(file.relative))
def test_a_bad_file_is_named_with_its_reason_in_one_line(tmp_path, file):
    lay(tmp_path / "raw", PHOTO_BESIDE)
    if file.relative == "zoe/to a pipe.jpg":
        os.mkfifo(tmp_path / "raw/zoe/pipe.jpg")
    lay(tmp_path / "raw", file)
    reason = account(tmp_path / "raw")[shown(file.relative)]
    assert isinstance(reason, str)
    assert re.search(file.reason, reason)
    assert len(reason.splitlines()) == 1
    assert "; " in reason, "the reason says how to mend it"


def test_good_and_bad_together_are_all_accounted_for(tmp_path):
    for file in (*PHOTOS, *REJECTED, PHOTO_BESIDE):
        lay(tmp_path / "raw", file)
    found = account(tmp_path / "raw")
    read = {name for name, outcome in found.items() if not isinstance(outcome, str)}
    assert read == {file.relative for file in (*PHOTOS, PHOTO_BESIDE)}
    assert found.keys() - read == {shown(file.relative) for file in REJECTED}


def test_photos_alone_are_listed_where_only_they_are_asked_for(tmp_path):
    for file in (PHOTOS[0], REJECTED[0], *REJECTED[-3:], PHOTO_BESIDE):
        lay(tmp_path / "raw", file)
    names = [photo.relative for photo in list_photos(tmp_path / "raw")]
    assert names == ["anna/plain.jpg", PHOTO_BESIDE.relative, "zoe/zero bytes.jpg"]


def test_a_name_in_two_unicode_forms_is_one_person_and_one_photo(tmp_path):
    for folder in (COMPOSED, DECOMPOSED):
        for name in ("1.png", f"{folder}.png"):
            lay(tmp_path / "raw", OddFile(f"{folder}/{name}", bytes_of(PNG)))
    listing = list_files(tmp_path / "raw")
    assert {photo.identity for photo in listing.photos} == {COMPOSED}
    assert [photo.relative for photo in listing.photos] == [f"{COMPOSED}/1.png", f"{COMPOSED}/{COMPOSED}.png"]
    assert {file.relative for file in listing.rejected} == {
        f"{DECOMPOSED}/1.png",
        f"{DECOMPOSED}/{DECOMPOSED}.png",
    }


def test_of_two_spellings_neither_of_them_normal_the_first_is_kept(tmp_path):
    spellings = sorted(["\u1eac", "\u00c2\u0323", "A\u0323\u0302", "A\u0302\u0323"])
    assert len({unicodedata.normalize("NFC", spelling) for spelling in spellings}) == 1
    unusual = [one for one in spellings if not unicodedata.is_normalized("NFC", one)]
    for spelling in unusual:
        lay(tmp_path / "raw", OddFile(f"anna/{spelling}.png", bytes_of(PNG)))
    assert [photo.relative for photo in list_photos(tmp_path / "raw")] == [f"anna/{unusual[0]}.png"]
    assert len(list_files(tmp_path / "raw").rejected) == len(unusual) - 1


@pytest.mark.parametrize(
    ("replace", "reason"),
    [
        (lambda path: None, "vanished after it was listed"),
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "vanished after it was listed"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_a_file_that_changes_after_it_was_listed_is_named_and_never_waited_for(tmp_path, replace, reason):
    lay(tmp_path, PHOTOS[0])
    photo = tmp_path / list_photos(tmp_path)[0].relative
    photo.unlink()
    replace(photo)
    with pytest.raises(DdmError, match=reason):
        read_photo(photo)


def test_refused_files_leave_no_open_handle(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        with pytest.raises(DdmError):
            open_photo(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_what_nobody_may_read_is_named():
    with open_folder() as root:
        lay(root / "raw", PHOTOS[0])
        lay(root / "raw", PHOTO_BESIDE)
        (root / "raw" / PHOTOS[0].relative).chmod(0)
        (root / "raw/zoe").chmod(0)
        try:
            found = as_nobody(lambda: account(root / "raw"))
        finally:
            (root / "raw/zoe").chmod(0o755)
    assert "Permission denied" in found[PHOTOS[0].relative]
    assert found["zoe"] == "a folder that cannot be listed (Permission denied); mend or remove it"


def nest(root, name, depth):
    """Make `depth` folders inside each other and return the innermost one, open: no path is short enough."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    return folder


def test_a_folder_nested_too_deep_for_the_system_is_named(tmp_path):
    lay(tmp_path / "raw", PHOTOS[0])
    os.close(nest(tmp_path / "raw", "d" * 200, 30))
    (rejected,) = list_files(tmp_path / "raw").rejected
    assert "cannot be listed (File name too long)" in rejected.reason


def test_a_tree_deeper_than_pythons_stack_is_walked(tmp_path):
    innermost = nest(tmp_path, "d", 1200)
    os.close(os.open("1.png", os.O_CREAT | os.O_WRONLY, dir_fd=innermost))
    os.close(innermost)
    try:
        assert [photo.relative for photo in list_photos(tmp_path)] == ["d/" * 1200 + "1.png"]
    finally:  # pytest's own clean-up is recursive
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_a_link_into_a_hidden_folder_of_the_tree_is_named(tmp_path):
    lay(tmp_path, OddFile(".store/anna/1.png", bytes_of(PNG)))
    (tmp_path / "anna").symlink_to(".store/anna")
    assert list_files(tmp_path).rejected == (
        Rejected("anna", "a symbolic link into a hidden folder; put what it leads to in its place"),
    )


def test_other_files_and_links_to_them_are_no_photos_and_are_named_apart(tmp_path):
    lay(tmp_path, PHOTOS[0])
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "link.txt").symlink_to("notes.txt")
    (tmp_path / "passwords").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    listing = list_files(tmp_path)
    assert listing.rejected == ()
    assert [file.relative for file in listing.others] == ["link.txt", "notes.txt", "passwords", "pipe"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("anna/1.gif", "pictures of the kind .gif are not read; save it as JPEG or PNG"),
        ("anna/1.TIFF", "pictures of the kind .tiff are not read; save it as JPEG or PNG"),
        ("anna/1", "a name without a suffix; add .jpg or .png if it is a photo, or remove it"),
        ("anna/1.txt", r"not a photo by its suffix \(.*\.jfif, .*\); rename it if it is one, or remove it"),
        ("lfw.bin", "pairs of photos without people, nothing to train on; name it in fetch.verification"),
    ],
)
def test_a_file_of_another_kind_is_named_with_its_reason(tmp_path, name, reason):
    lay(tmp_path, PHOTOS[0])
    lay(tmp_path, OddFile(name, bytes_of(b"any")))
    (other,) = list_files(tmp_path).others
    assert other.relative == name
    assert re.fullmatch(reason, other.reason)


def test_a_bomb_is_judged_by_its_header_before_memory_is_taken(tmp_path):
    """81 million pixels that do decode, in a fresh process whose peak memory grows by less than they take."""
    (bomb,) = (file for file in REJECTED if "81 mega" in file.relative)
    lay(tmp_path, bomb)
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from ddm_core.data.imaging import decode; from ddm_core.errors import DdmError\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "def refused(name):\n"
        "    try: decode(Path(name).read_bytes(), image_size=32, channels=3, square='crop')\n"
        "    except DdmError: return True\n"
        "small = refused(sys.argv[1]); before = peak(); print(small, refused(sys.argv[2]), peak() - before)"
    )
    small = tmp_path / "small.png"
    small.write_bytes(PNG[:-30])
    output = subprocess.run(
        [sys.executable, "-c", program, small, tmp_path / bomb.relative],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert output[:2] == ["True", "True"]
    assert int(output[2]) < 20_000  # KiB
    with Image.open(tmp_path / bomb.relative) as image:
        assert image.size == (9_000, 9_000)
