"""An S3 server of this process's own (moto's), for shops whose files lie in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import boto3

BUCKET = "photos"
KEYS = {"access_key": "shop", "secret_key": "nobody's", "region_name": "eu-central-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address, with one bucket that is private."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        url = f"http://{host}:{port}"
        # What moto keeps belongs to the process: another server of it left its buckets.
        urlopen(Request(f"{url}/moto-api/reset", method="POST"), timeout=60).close()
        client(url).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": KEYS["region_name"]})
        yield url
    finally:
        server.stop()


def client(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=KEYS["access_key"],
        aws_secret_access_key=KEYS["secret_key"],
        region_name=KEYS["region_name"],
    )


def storage_settings(url: str, **options: Any) -> dict[str, Any]:
    """An entry of ``STORAGES``."""
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": BUCKET, "endpoint_url": url, **KEYS, **options},
    }


@contextmanager
def counted_requests() -> Iterator[list[str]]:
    """What is asked of S3 meanwhile, by any thread: "HEAD /photos/a.jpg"."""
    from botocore.httpsession import URLLib3Session

    requests: list[str] = []
    send = URLLib3Session.send

    def counting(self: Any, request: Any) -> Any:
        requests.append(f"{request.method} {request.url.split('?')[0].partition('//')[2].partition('/')[2]}")
        return send(self, request)

    URLLib3Session.send = counting
    try:
        yield requests
    finally:
        URLLib3Session.send = send
