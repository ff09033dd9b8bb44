"""S3 or MinIO: object storage, asked with boto3 over the console's own bounded HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from pydantic import Field, SecretStr

from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import DEFAULT_SECONDS, deadline
from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unconfigured, Unexpected, Unreachable
from adapters.core.http import client as http_client
from adapters.core.http import request
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit, utcnow
from adapters.core.redact import redact
from adapters.s3_client.objects import Objects
from adapters.s3_client.prefix import Prefixes
from adapters.s3_client.session import BoundedSession
from adapters.s3_client.usage import Bucket, Usage, total

COUNT_EVERY_S = 600.0
COUNT_AGAIN_S = 60.0
COUNT_PAGES = 50
COUNT_SECONDS = 30.0
FIRST_WAIT_S = 0.5
BUCKETS_SHOWN = 200
MINIO_METRICS = "/minio/v2/metrics/cluster"


class S3Config(ServiceConfig):
    """How to reach the object storage."""

    endpoint_url: str | None = Field(
        None, title="Address", description="https://host:port of the S3 API.", json_schema_extra={"required": True}
    )
    access_key: SecretStr | None = Field(None, title="Access key", json_schema_extra={"required": True})
    secret_key: SecretStr | None = Field(None, title="Secret key", json_schema_extra={"required": True})
    region: str = Field("us-east-1", title="Region")
    bucket: str | None = Field(
        None, title="Bucket", description="The platform's bucket; all that the key sees if not set."
    )
    tenant_principal: str | None = Field(
        None,
        title="Who works with tenants' files",
        description=(
            "ARN that the bucket's policy gives a tenant's prefix to. {tenant} stands for the tenant's id; without it, "
            "one statement serves every tenant by the principal's tag tenant. No policy if not set."
        ),
    )


class S3(Adapter[S3Config]):
    """One S3 endpoint."""

    service = Service(
        slug="s3",
        title="S3 storage",
        category=Category.DATA,
        path="/platform/infrastructure/storage",
        purpose="Keeps files: uploads, recordings, exports.",
        affects="uploads, downloads and exports",
        order=110,
    )

    def __init__(self, config: S3Config) -> None:
        super().__init__(config)
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._stop = threading.Event()
        self._usage: Usage | None = None
        self._counted: threading.Event | None = None
        self._due = 0.0

    @cached_property
    def _http(self) -> httpx.Client:
        return http_client(self.config.endpoint_url or "")

    @cached_property
    def _client(self) -> Any:
        self.require_config()
        config = self.config
        assert config.access_key is not None
        assert config.secret_key is not None
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=config.endpoint_url,
            aws_access_key_id=config.access_key.get_secret_value(),
            aws_secret_access_key=config.secret_key.get_secret_value(),
            region_name=config.region,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, signature_version="s3v4"),
        )
        # botocore's own session bounds each read only; the endpoint takes any object with send() and close().
        client._endpoint.http_session.close()
        client._endpoint.http_session = BoundedSession(self._http)
        return client

    def health(self) -> Health:
        """HeadBucket on the configured bucket, ListBuckets without one."""
        bucket = self.config.bucket
        with self._asking() as client:
            answer = client.head_bucket(Bucket=bucket) if bucket else client.list_buckets(MaxBuckets=BUCKETS_SHOWN)
        meta = answer["ResponseMetadata"]
        server = str(meta["HTTPHeaders"].get("server", ""))
        if not any(name.startswith("x-amz-") for name in meta["HTTPHeaders"]) and "Buckets" not in answer:
            raise Unexpected("What answers at this address does not speak S3.", detail=redact(meta))
        sentence = f"The bucket {bucket} is there." if bucket else f"{len(answer['Buckets'])} buckets are there."
        return Health(State.HEALTHY, sentence, redact(server)[:60] or None)

    def metrics(self) -> Sequence[Metric]:
        """Storage used (headline), objects, buckets. Counting happens in the background, every ten minutes."""
        buckets = self.buckets()
        usage = self.usage()
        count = Metric("buckets", "Buckets", len(buckets), headline=usage is None)
        if usage is None:
            return [count]
        note = ("" if usage.complete else "at least, ") + f"counted {usage.counted_at}"
        return [
            Metric("storage", "Storage used", usage.size_bytes, Unit.BYTES, headline=True, note=note),
            Metric("objects", "Objects", usage.objects, note=note),
            count,
        ]

    def settings(self) -> Sequence[Setting]:
        """Address and region here, and versioning, encryption and lifecycle of the bucket as the server tells."""
        config = self.config
        found = [
            Setting("endpoint", config.endpoint_url or "", description="Configured here."),
            Setting("region", config.region, description="Configured here."),
        ]
        if config.bucket is None:
            return [*found, *(Setting(bucket.name, "bucket", group="Buckets") for bucket in self.buckets())]
        with self._asking() as client:
            found += [
                Setting(label, _optional(getattr(client, call), config.bucket, pick), group=f"Bucket {config.bucket}")
                for label, call, pick in (
                    ("versioning", "get_bucket_versioning", "Status"),
                    ("location", "get_bucket_location", "LocationConstraint"),
                    ("encryption", "get_bucket_encryption", "ServerSideEncryptionConfiguration"),
                    ("lifecycle", "get_bucket_lifecycle_configuration", "Rules"),
                )
            ]
        return found

    def buckets(self) -> list[Bucket]:
        """Buckets the key sees, at most 200, with sizes where they were counted."""
        with self._asking() as client:
            if self.config.bucket:
                client.head_bucket(Bucket=self.config.bucket)
                names = [self.config.bucket]
            else:
                names = [row["Name"] for row in client.list_buckets().get("Buckets", [])[:BUCKETS_SHOWN]]
        usage = self._usage
        known = {bucket.name: bucket for bucket in usage.buckets} if usage else {}
        return [known.get(name, Bucket(name)) for name in names]

    def objects(self, bucket: str) -> Objects:
        """The objects of one bucket, to be written, read, listed and removed."""
        return Objects(self._asking, bucket)

    def prefixes(self) -> Prefixes:
        """Parts of the configured bucket that belong to somebody, and what its policy says of them.

        Raises Unconfigured where no bucket is set.
        """
        if not self.config.bucket:
            raise Unconfigured("No bucket is set: set PILOTHOUSE_S3_BUCKET.", missing=("PILOTHOUSE_S3_BUCKET",))
        return Prefixes(self._asking, self.config.bucket)

    def usage(self) -> Usage | None:
        """What is stored, as last counted; None before the first count has ended.

        Starts a count in the background when the last is ten minutes old, and waits for
        the very first one half a second at most.
        """
        with self._lock:
            if time.monotonic() >= self._due and not self._stop.is_set():
                self._due = time.monotonic() + COUNT_EVERY_S
                done = threading.Event()
                self._counted = done if self._counted is None else self._counted
                threading.Thread(target=self._count, args=(done,), name="s3-count", daemon=True).start()
            waiting = self._counted if self._usage is None else None
        if waiting is not None:
            waiting.wait(FIRST_WAIT_S)
        return self._usage

    def close(self) -> None:
        """Stop counting and close the client."""
        self._stop.set()
        self.__dict__.pop("_client", None)
        http = self.__dict__.pop("_http", None)
        if http is not None:
            http.close()

    def _count(self, done: threading.Event) -> None:
        # A count that fails leaves the last one in place, with its age beside it, and is tried again sooner.
        try:
            with deadline(COUNT_SECONDS):
                self._usage = self._ask_minio() or self._list()
        except AdapterError:
            self._due = time.monotonic() + COUNT_AGAIN_S
        finally:
            done.set()

    def _ask_minio(self) -> Usage | None:
        with suppress(AdapterError):
            text = request(self._http, "GET", MINIO_METRICS, expect=str, service="MinIO")
            size, objects = (
                total(text, "minio_cluster_usage_total_bytes"),
                total(text, "minio_cluster_usage_object_total"),
            )
            if size is not None and objects is not None:
                return Usage(int(size), int(objects), True, "server", _now())
        return None

    def _list(self) -> Usage:
        pages, complete, counted = 0, True, []
        for bucket in self.buckets():
            size = objects = 0
            token: dict[str, str] = {}
            while not self._stop.is_set():
                if pages >= COUNT_PAGES:
                    complete = False
                    break
                with self._asking() as client:
                    page = client.list_objects_v2(Bucket=bucket.name, MaxKeys=1000, **token)
                pages += 1
                rows = page.get("Contents", [])
                objects += len(rows)
                size += sum(int(row.get("Size", 0)) for row in rows)
                if not page.get("IsTruncated") or "NextContinuationToken" not in page:
                    break
                token = {"ContinuationToken": page["NextContinuationToken"]}
            counted.append(Bucket(bucket.name, objects, size))
        size_bytes, number = sum(b.size_bytes or 0 for b in counted), sum(b.objects or 0 for b in counted)
        return Usage(size_bytes, number, complete, "listing", _now(), tuple(counted))

    @contextmanager
    def _asking(self, seconds: float = DEFAULT_SECONDS) -> Iterator[Any]:
        """The boto3 client, for a block within one deadline; its errors leave as AdapterError."""
        config = self.config
        with self._making:
            client = self._client  # reads boto3's own files the first time: the storage is not to blame for that
        with deadline(seconds):
            try:
                yield client
            except AdapterError:
                raise
            except ClientError as error:
                raise _translate(error, redact(error, config.access_key, config.secret_key)) from error
            except httpx.TimeoutException as error:
                raise TimedOut("The storage did not answer in time.", detail=repr(error)) from error
            except httpx.RemoteProtocolError as error:
                raise Unexpected("What answers at this address does not speak S3.", detail=repr(error)) from error
            except (httpx.TransportError, OSError) as error:
                raise Unreachable("No connection to the storage.", detail=repr(error)) from error
            except (ResponseParserError, BotoCoreError, httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                detail = redact(f"{type(error).__name__}: {error}", config.access_key, config.secret_key)
                raise Unexpected("What answers at this address does not speak S3.", detail=detail) from error


def _translate(error: ClientError, detail: str) -> AdapterError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    if status in (401, 403) or code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return Denied("The storage refused the console's key.", detail=detail)
    if status == 404 or code in ("NoSuchBucket", "404"):
        return Rejected("The storage has no such bucket.", detail=detail)
    if 400 <= status < 500:
        return Rejected("The storage refused the request.", detail=detail)
    return Unexpected(f"The storage answered HTTP {status}.", detail=detail)


def _optional(call: Any, bucket: str, pick: str) -> str:
    """A part of a bucket's configuration; many servers answer 404 or 501 where nothing is configured."""
    try:
        value = call(Bucket=bucket).get(pick)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status in (403, 404, 405, 501):
            return "not allowed to see" if status == 403 else "not set"
        raise
    return redact(value)[:500] if value else "not set"


def _now() -> str:
    return utcnow().strftime("%H:%M UTC")
