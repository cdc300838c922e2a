"""The image that components name until the pipeline is compiled for another."""

from ddm_core import __version__

IMAGE = f"localhost/ddm-pipeline:{__version__}"
