"""The section `fetch` of params.yaml: settings that do not go together, and which of them name the photos."""

import pytest

from ddm_core.fetch_params import FetchParams

COMMIT = "0" * 40
DIGEST = {"uri": "s3://faces/photos", "digest": "0" * 64}


@pytest.mark.parametrize(
    ("fields", "pinned"),
    [
        ({"uri": "s3://faces/photos"}, False),
        (DIGEST, True),
        ({"uri": "dvc://faces@may:raw"}, False),
        ({"uri": f"dvc://faces@{COMMIT}:raw"}, True),
        ({"uri": f"dvc://faces@{COMMIT}:raw", "exclude_people": "people.txt"}, False),
        ({"uri": f"dvc://faces@{COMMIT}:raw", "exclude_people": f"dvc://faces@{COMMIT}:people.txt"}, True),
        (DIGEST | {"exclude_people": "s3://faces/people.txt"}, True),
    ],
)
def test_photos_are_pinned_where_the_params_name_all_that_is_fetched(fields, pinned):
    assert FetchParams("folder", **fields).is_pinned == pinned


@pytest.mark.parametrize("fields", [DIGEST, {"uri": f"dvc://faces@{COMMIT}:raw"}], ids=["digest", "commit"])
@pytest.mark.parametrize("name", ["lists", "corrections", "verification"])
@pytest.mark.parametrize(
    ("place", "pinned"),
    [
        ("here.txt", False),
        ("s3://faces/there.txt", False),
        ("dvc://faces@may:there.txt", False),
        (f"dvc://faces@{COMMIT}:there.txt", True),
    ],
)
def test_files_beside_the_photos_have_no_digest_and_are_pinned_at_commits_alone(fields, name, place, pinned):
    at_commit = f"dvc://faces@{COMMIT}:facescrub_actors.txt"
    beside = {"lists": (at_commit,)} | {name: (at_commit, place) if name == "lists" else place}
    assert FetchParams("facescrub", **fields, **beside).is_pinned == pinned


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "lfw"}, "uri is empty; name LFW's folder or archive"),
        ({"source": "facescrub", "uri": "x"}, "lists is empty; name facescrub_actors.txt"),
        ({"source": "folder", "uri": "x", "lists": ("a",)}, "lists are for lfw, facescrub and casia_webface"),
        ({"source": "casia_webface", "uri": "x", "lists": ("a",)}, "name both or neither"),
        ({"source": "lfw", "uri": "x", "verification": "lfw.bin"}, "name pairs.txt in lists instead"),
        ({"source": "folder", "uri": "x", "margin": 0.1}, "corrections and margin are for facescrub"),
        ({"source": "lfw", "uri": "https://host/lfw"}, "neither a local path nor s3://bucket/prefix"),
        ({"source": "lfw", "uri": "x", "lists": ("dvc://x",)}, "uri is not dvc://<git repository>@"),
        ({"source": "folder", "uri": "x", "exclude_people": "s3:/x"}, "neither a local path nor"),
        ({"source": "facescrub", "uri": "x", "lists": ("a",), "margin": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FetchParams(**settings)
