"""The SQLite file under a ledger: how it is laid out, opened and locked.

Comes in: a path. Goes out: a connection that writes through to the disk, and a lock that the system drops with the
process, however it ends. Knows the tables, not what they mean.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sightline.atomic import fault_point
from sightline.errors import ConfigError, StorageError

VERSION = 1
APPLICATION = 0x534C4C47
"""SQLite's application id, "SLLG": tells a ledger from other files."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE question (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL,
    edition TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, asks INTEGER NOT NULL, longer INTEGER NOT NULL,
    attempt INTEGER
) WITHOUT ROWID;
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, ask INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, picos INTEGER NOT NULL, batch TEXT, raw BLOB
);
CREATE INDEX attempt_in_batch ON attempt (batch) WHERE batch IS NOT NULL;
CREATE INDEX attempt_of_key ON attempt (key) WHERE batch IS NOT NULL;
CREATE TABLE batch (name TEXT PRIMARY KEY, written INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""

_locked_here: set[Path] = set()


class LedgerFile:
    """An open ledger file. Writes take hold together at `commit`."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """
        Raises:
            ConfigError, StorageError: see `Ledger`.
        """
        self.path = path
        self._failed: StorageError | None = None
        with ExitStack() as stack:
            if not read_only:
                stack.enter_context(_locked(path))
            self._base = stack.enter_context(_connected(path, read_only=read_only))
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was written since the last commit is kept, unless writing has failed."""
        try:
            if self._failed is None:
                self.commit()
        finally:
            self._open.__exit__(kind, error, trace)

    def read(self, query: str, *values: Any) -> sqlite3.Cursor:
        """A query; it sees what was written, committed or not."""
        return self._base.execute(query, values)

    def write(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """A write, which takes hold at the next commit.

        Raises:
            StorageError: it cannot. From then on this ledger writes nothing.
        """
        if self._failed is not None:
            raise self._failed
        if not self._base.in_transaction:
            self._execute("BEGIN IMMEDIATE")
        return self._execute(statement, *values)

    def commit(self) -> None:
        """Returns when all that was written is on the disk.

        Raises:
            StorageError: it is not. From then on this ledger writes nothing.
        """
        if self._failed is not None:
            raise self._failed
        if self._base.in_transaction:
            fault_point("before_commit")
            self._execute("COMMIT")
            fault_point("after_commit")

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._base.execute(statement, values)
        except sqlite3.Error as error:
            # SQLite may have rolled everything back by itself: whoever believed in an earlier write must not go on.
            self._failed = StorageError(
                f"{self.path}: the ledger cannot be written: {error}; what was stored before is whole: make room, then "
                "the same command continues"
            )
            raise self._failed from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Inside, no other process and nobody else in this one may write to the ledger `path`.

    Raises:
        ConfigError: somebody does.
        StorageError: the lock's file cannot be written.
    """
    name = path.absolute().with_name(f"{path.name}.lock")
    # Record locks, unlike `flock`, are not inherited by forked workers, who may outlive a killed run by seconds. But
    # they do not hold within one process: hence the set.
    if name in _locked_here:
        raise ConfigError(f"{path}: this process has the ledger open already")
    try:
        lock = name.open("a+", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: the ledger cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            lock.seek(0)
            owner = lock.read().strip() or "?"
            raise ConfigError(
                f"{path}: the ledger is in use by process {owner}; wait until it ends, or stop it: all it did is kept"
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        _locked_here.add(name)
        try:
            yield
        finally:
            _locked_here.remove(name)


@contextmanager
def _connected(path: Path, *, read_only: bool) -> Iterator[sqlite3.Connection]:
    """A connection to a ledger, made where there is none.

    Every commit waits for the disk (synchronous = FULL in WAL mode: sqlite.org/pragma.html#pragma_synchronous).

    Raises:
        ConfigError: there is none to be read, or the file is another one.
        StorageError: it cannot be written, or is damaged.
    """
    if read_only and not path.is_file():
        raise ConfigError(f"{path}: no ledger there: give the file that a run has written")
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    try:
        base = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StorageError(f"{path}: the ledger cannot be opened: {error}") from error
    try:
        _prepare(base, path, read_only=read_only)
        yield base
    except sqlite3.Error as error:
        raise StorageError(f"{path}: the ledger cannot be used: {error}") from error
    finally:
        base.close()


def _prepare(base: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    try:
        found = [base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        empty = not base.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise ConfigError(f"{path}: no ledger, but another file: choose another name") from error
        raise
    if found[0] != APPLICATION and not (empty and found == [0, 0]):
        raise ConfigError(f"{path}: no ledger, but another program's database: choose another name")
    if not empty and found[1] != VERSION:
        raise ConfigError(f"{path}: a ledger of version {found[1]}, this program reads {VERSION}: update it")
    if not read_only:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = FULL")
        if empty:
            base.executescript(_SCHEMA)
    elif empty:
        raise ConfigError(f"{path}: an empty ledger: give the file that a run has written")
