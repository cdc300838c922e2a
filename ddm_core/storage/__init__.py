"""Files on S3 and whatever speaks its protocol (MinIO, Ceph). No other part of the project knows boto3.

Credentials, region and endpoint (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3) are found as boto3 finds them; it
addresses an endpoint of your own path-style, which is what MinIO and Ceph want. What is written carries its
SHA-256; what is read is checked against the best checksum that the service has.
"""

from ddm_core.storage.addresses import is_remote, split_uri
from ddm_core.storage.client import Transfer
from ddm_core.storage.objects import Content, Listed, delete, exists, find, list_objects, size
from ddm_core.storage.publishing import Published, publish_tree
from ddm_core.storage.reading import download, open_stream
from ddm_core.storage.trees import EVERYTHING, RAW, Selection, discard, mirrored, published
from ddm_core.storage.writing import put_if, upload

__all__ = [
    "EVERYTHING",
    "RAW",
    "Content",
    "Listed",
    "Published",
    "Selection",
    "Transfer",
    "delete",
    "discard",
    "download",
    "exists",
    "find",
    "is_remote",
    "list_objects",
    "mirrored",
    "open_stream",
    "publish_tree",
    "published",
    "put_if",
    "size",
    "split_uri",
    "upload",
]
