"""Compiled grammars that are kept: the latest used in memory, bounded in bytes, and on disk, each with a checksum."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")

_SUFFIX = ".grammar"


class MemoryCache(Generic[Value]):
    """The values used last, up to so many bytes, by the weight that each is given. Safe from many threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._values: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> Value | None:
        """The value, which now is the one used last."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: str, value: Value, weight: int) -> None:
        """Keep the value; those unused for longest go. One heavier than the limit is not kept."""
        with self._lock:
            earlier = self._values.pop(key, None)
            self.bytes -= earlier[1] if earlier else 0
            if weight > self.limit:
                return
            self._values[key] = (value, weight)
            self.bytes += weight
            while self.bytes > self.limit:
                _, (_, gone) = self._values.popitem(last=False)
                self.bytes -= gone

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self.bytes = 0


class DiskCache:
    """Files in `folder` (made when needed), by key and by the version of this package's code.

    A file that is broken, or whose checksum is wrong, is removed and counts as not there. Errors of the disk are no
    errors of the cache: it then keeps nothing. When all files exceed `limit` bytes, the oldest go.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def get(self, key: str) -> bytes | None:
        """What was put under this key, unchanged, or None."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data[32:]).digest() == data[:32]:
            return data[32:]
        path.unlink(missing_ok=True)
        return None

    def put(self, key: str, data: bytes) -> None:
        """Keep these bytes, if the disk lets us: whole or not at all."""
        if len(data) + 32 > self.limit:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(data).digest() + data)
                Path(name).replace(self._path(key))
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
            self._shrink()
        except OSError:
            return

    def remove(self, key: str) -> None:
        """Forget this key."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256((code_version() + key).encode()).hexdigest()}{_SUFFIX}"

    def _shrink(self) -> None:
        files = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process removed it
            files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            total -= size


@cache
def code_version() -> str:
    """Changes whenever a file of the front ends does, so that nothing stale is read back."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
