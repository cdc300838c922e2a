"""Small models as the register stage packs them, pictures for them, and a program that uses one."""

import base64
import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy
import pandas
from PIL import Image
from started_networks import started_networks

from ddm_core.checkpoints import weights_digest
from ddm_core.data.readers import CREDITS, LICENCES
from ddm_core.gate import judge
from ddm_core.obfuscators.store import Description, TrainingData, save_obfuscator
from ddm_core.params import load
from ddm_core.serving.candidate import Candidate

CHECKOUT = Path(__file__).parents[2]
PARAMS, PHOTO_PARAMS = load(CHECKOUT / "params.yaml"), load(CHECKOUT / "photo/params.yaml")
SIZE = 32
ENCRYPT, DECRYPT = {"operation": "encrypt"}, {"operation": "decrypt"}
JPEG = {"image_format": "jpeg"}
ODD_SIZE = 30  # no multiple of the grid
CELL = {"top1": 0.03, "ci95": [0.02, 0.05], "n": 1280}
UTILITY = {"psnr_db": 33.0, "ssim": 0.95, "recognition_top1": 0.99, "ci95": [0.97, 1.0], "n": 320}
EVIDENCE = {
    "method": "keyed_ddm",
    "decrypts": True,
    "attacks": dict.fromkeys(PARAMS.register.gate.attackers, CELL),
    "worst_case": {"attacker": "retrained", "top1": 0.03, "ci95": [0.02, 0.05]},
    "utility": dict.fromkeys(("png", "jpeg75", "resize50"), UTILITY),
}


def small_params(method):
    """The settings of params.yaml or photo/params.yaml, with small networks: exports take the time."""
    if method != "photo_ddm":
        small = {"width": 8} | ({"blocks": 1} if method == "keyed_ddm" else {})
        return dataclasses.replace(PARAMS.train[method], **small)
    widths = dict.fromkeys(("encoder_width", "renderer_width", "seeker_width", "decoder_width"), 8)
    return dataclasses.replace(PHOTO_PARAMS.train["photo"], quaternions=12, **widths)


def candidate(folder, method, channels=1, evidence=EVIDENCE, size=SIZE):
    judged_on, learned_from = ("ab" * 32, "orl"), ("ab" * 32, "orl")
    if method == "photo_ddm":
        learned_from = "cd" * 32, "scikit_image"
    described = {
        source: {"source": source, "credit": CREDITS[source], "licence": LICENCES[source]}
        for _, source in (judged_on, learned_from)
    }
    trained_on = TrainingData(learned_from[0], **described[learned_from[1]])
    description = Description(small_params(method), channels, size, trained_on)
    folder.mkdir(parents=True)
    save_obfuscator(folder, description, started_networks(description))
    return Candidate(
        name=method,
        obfuscator=method,
        folder=folder,
        weights_digest=weights_digest(folder),
        evidence=evidence,
        verdict=judge(evidence, PARAMS.register.gate),
        chance=0.025,
        dataset_digest=judged_on[0],
        commit="c0ffee",
        dataset=described[judged_on[1]],
    )


def loaded(folder, key_file):
    return mlflow.pyfunc.load_model(str(folder), model_config={"key_file": str(key_file)})


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def picture(size=SIZE):
    return Image.linear_gradient("L").resize((size, size))


def colours(size=SIZE):
    """A picture in which no channel is like another."""
    ramp = picture(size)
    return Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180)))


def table(*contents):
    return pandas.DataFrame({"image": list(contents)})


def pixels(content):
    return numpy.asarray(Image.open(io.BytesIO(content))).astype(float)


def likeness(content, original):
    """Correlation of an encoded picture with the original: the weights are untrained, so not a PSNR."""
    found = Image.open(io.BytesIO(content)).convert(original.mode)  # WebP keeps grey as RGB
    return numpy.corrcoef(numpy.asarray(found).ravel(), numpy.asarray(original).ravel())[0, 1]


_PROGRAM = """
import io, json, sys
import mlflow, pandas
from pathlib import Path

right, wrong = (
    mlflow.pyfunc.load_model("models:/keyed_ddm@champion", model_config={"key_file": key_file})
    for key_file in sys.argv[1:]
)
photos = pandas.DataFrame({"image": [Path("face.png").read_bytes()]})
hidden = right.predict(photos, params={"operation": "encrypt"})
restored = right.predict(hidden, params={"operation": "decrypt"})
Path("restored.png").write_bytes(restored["image"][0])
try:
    wrong.predict(hidden, params={"operation": "decrypt"})
except Exception as error:
    print(json.dumps({"error": str(error), "code": sys.modules["ddm_core"].__file__}))
"""


def use_champion_in_a_fresh_process(folder, address, keys):
    """Run a program in `folder` that hides face.png with the first key file of `keys`, restores it as
    restored.png, and tries the second; returns the finished process."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DDM_KEY_FILE")
    }
    environment["MLFLOW_TRACKING_URI"] = address
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, *keys],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def forms(key):
    """A key as it could appear in a file: raw, as hexadecimal, as base64."""
    return [
        form.rstrip(b"=")
        for form in (key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key))
    ]
