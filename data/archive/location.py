"""Where a dataset lives: a directory, or `s3://bucket/prefix` by the same argument.

A local dataset is a directory with `icechunk/`, a plain Icechunk repository, `writer.lock`, and `journal/`, the logs
of episodes not yet committed. A dataset in an object store is the repository itself and keeps the other two on this
machine, under `$XDG_STATE_HOME/robot-rl/`, so that recording never waits for the network.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import icechunk

from data.archive.schema import DatasetError


@dataclass(frozen=True)
class Location:
    """A dataset's address and the local files that go with it.

    Attributes:
        url: As the user wrote it.
        repository: Directory of the Icechunk repository; None when it is in an object store.
        state: Local directory of `writer.lock` and `journal/`.
    """

    url: str
    repository: Path | None
    state: Path

    @classmethod
    def parse(cls, url: str) -> Self:
        """The location of a directory, a `file://` or an `s3://bucket/prefix` address.

        Raises:
            DatasetError: Another scheme, or no bucket.
        """
        scheme, separator, rest = url.partition("://")
        if not separator or scheme == "file":
            directory = Path(rest if separator else url).expanduser().absolute()
            return cls(url, directory / "icechunk", directory)
        if scheme != "s3":
            raise DatasetError(f"dataset '{url}': no scheme '{scheme}', use a directory or s3://bucket/prefix")
        if not rest.strip("/"):
            raise DatasetError(f"dataset '{url}': no bucket, use s3://bucket/prefix")
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", rest).strip("-")[-60:]
        digest = hashlib.sha256(rest.strip("/").encode()).hexdigest()[:12]
        return cls(url, None, home / "robot-rl" / f"{readable}-{digest}")

    @property
    def lock_path(self) -> Path:
        """The file whose lock the one writer holds."""
        return self.state / "writer.lock"

    @property
    def journal(self) -> Path:
        """Directory of the logs of episodes that are not committed yet."""
        return self.state / "journal"

    def storage(self) -> icechunk.Storage:
        """The Icechunk storage; credentials of an object store come from the usual AWS variables."""
        if self.repository is not None:
            return icechunk.local_filesystem_storage(str(self.repository))
        bucket, _, prefix = self.url.removeprefix("s3://").strip("/").partition("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return icechunk.s3_storage(
            bucket=bucket,
            prefix=prefix or None,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_url=endpoint,
            allow_http=bool(endpoint) and str(endpoint).startswith("http://"),
            # Servers that stand in for S3 rarely answer at bucket.host.
            force_path_style=bool(endpoint),
            from_env=True,
        )

    def sync(self) -> None:
        """Returns once everything written to the dataset's file system is on its disk, power loss included.

        Icechunk does not fsync its files. An object store answers only when it has the data.

        Raises:
            OSError: The disk reported an error; what was written may be lost.
        """
        if self.repository is None:
            return
        descriptor = os.open(self.repository, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(self.repository))
        finally:
            os.close(descriptor)
