"""The image of this checkout, built for real; skipped with the reason where this machine cannot."""

import pytest
from engine import UNREACHABLE, Image, find_engine, head, make_image, why_unusable


@pytest.fixture(scope="session")
def image():
    """The built image. It stays on the machine, so that the next build finds its layers."""
    engine = find_engine()
    if engine is None:
        pytest.skip("neither docker nor podman answers on this machine")
    if reason := why_unusable(engine):
        pytest.skip(reason)
    commit = head()
    built = make_image("localhost/ddm-pipeline:test")
    output = built.stdout + built.stderr
    if built.returncode and UNREACHABLE.search(output):
        pytest.skip("the build reaches no package index; IMAGE_BUILD_OPTIONS and TORCH_INDEX_URL may help")
    assert built.returncode == 0, output[-4000:]
    return Image(engine, "localhost/ddm-pipeline:test", commit)


@pytest.fixture
def shared_folder(tmp_path):
    """A folder of the machine that every user of a container may write to."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder
