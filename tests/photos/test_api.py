"""The three functions for programs do what their examples say, and cost nothing until they are used."""

import doctest
import subprocess
import sys

import pytest
from photo_files import encoded, pixels_of, scene

import ddm_core
from ddm_core.errors import DdmError
from ddm_core.key_files import new_key_file
from ddm_core.photos import api


def test_the_examples_run_as_they_stand(tmp_path, model_folders, key_file):
    (tmp_path / "photo.jpg").write_bytes(encoded(scene(120, 90), "JPEG"))
    new_key_file(tmp_path / "other.key")
    names = {
        "model_folder": model_folders["colour"],
        "key_file": key_file,
        "other_key_file": tmp_path / "other.key",
        "photo": tmp_path / "photo.jpg",
    }
    failed, tried = doctest.testmod(api, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert tried >= 8


def test_bytes_and_paths_are_photos_alike(tmp_path, model_folders, key_file):
    vault = ddm_core.load(model_folders["colour"], key=str(key_file))
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(scene(70, 50)))
    for photo in (path, str(path), path.read_bytes()):
        assert pixels_of(ddm_core.decrypt(ddm_core.encrypt(photo, vault), vault)).shape == (50, 70, 3)


def test_a_vault_does_not_show_its_keys(model_folders, key_file, ring):
    shown = repr(ddm_core.load(model_folders["colour"], key=key_file))
    assert "MasterKey" not in shown
    assert ring.current.secret.hex() not in shown
    assert repr(ring.current.secret) not in repr(ring)


def test_a_key_under_a_passphrase_asks_for_it(tmp_path, model_folders):
    new_key_file(tmp_path / "sealed.key", lambda: b"correct horse battery")
    with pytest.raises(DdmError, match="is under a passphrase"):
        ddm_core.load(model_folders["colour"], key=tmp_path / "sealed.key")
    asked = ddm_core.load(
        model_folders["colour"], key=tmp_path / "sealed.key", passphrase=lambda: b"correct horse battery"
    )
    assert asked.ring.current.created


def test_the_package_imports_nothing_heavy_until_a_photo_function_is_used():
    program = "import sys, ddm_core; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "PIL", "mlflow"}.isdisjoint(loaded.stdout.split())
    assert set(dir(ddm_core)) >= {"__all__"}
    with pytest.raises(AttributeError, match="no attribute 'encrpt'"):
        ddm_core.encrpt  # noqa: B018
