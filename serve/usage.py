"""What every key has used, kept in a database: SQLite by default, PostgreSQL by URL.

Rows are handed to a thread that writes them at least twice a second, so that a kill loses no more
than the last second, and a request never waits for a disk. While the database is away rows wait
in memory, up to a bound; what is beyond it is counted as lost and told, never in silence. Each row
has a number of its own: what was written just before a connection broke is not written twice.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.schema import CreateIndex, CreateTable

from pipeline.core.errors import UserError
from serve.telling import Outage, Tell, tell
from serve.used import Used

_FLUSH_S = 0.4
_WAITING = 100_000
_BATCH = 1_000
# Rows of one statement; each size is compiled once.
_TOGETHER = (64, 8, 1)
_CLOSING_S = 5.0

USED = sql.Table(
    "used",
    sql.MetaData(),
    sql.Column("row", sql.String(40), primary_key=True),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("request_id", sql.String(64), nullable=False),
    sql.Column("key_id", sql.String(64), nullable=False, index=True),
    sql.Column("model", sql.String(160), nullable=False),
    sql.Column("version", sql.String(64), nullable=False),
    sql.Column("route", sql.String(64), nullable=False),
    sql.Column("prompt_tokens", sql.BigInteger, nullable=False),
    sql.Column("completion_tokens", sql.BigInteger, nullable=False),
    sql.Column("status", sql.Integer, nullable=False),
    sql.Column("latency_s", sql.Float, nullable=False),
    sql.Column("stream", sql.Boolean, nullable=False),
)


@dataclass(frozen=True)
class Total:
    """Sums of one key or model."""

    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


class UsageStore:
    """The table of usage."""

    def __init__(
        self, url: str, lost: Callable[[str], None] = lambda _what: None, told: Tell = tell
    ) -> None:
        """
        Args:
            url: SQLAlchemy's, such as ``sqlite:////var/lib/gradus/usage.db``.
            lost: told "usage" for each row that could not be kept.
            told: gets a line when the database goes away and when it is back.

        Raises:
            UserError: no such kind of database, or it cannot be opened.
        """
        waits = f"rows wait in memory, {_WAITING:,} at most"
        self._outage = Outage("usage", waits, lost, told)
        self._waiting: deque[tuple[str, Used]] = deque()
        self._process, self._numbers = secrets.token_hex(8), itertools.count()
        self._stop, self._ends = threading.Event(), float("inf")
        self._thread: threading.Thread | None = None
        try:
            self._engine = sql.create_engine(url, pool_pre_ping=True)
            self._insert = _insert(self._engine.dialect.name)
            if self._engine.dialect.name == "sqlite":
                _own_file(self._engine.url.database)
                sql.event.listen(self._engine, "connect", _durable)
            try:
                _make_table(self._engine)
            except Exception:
                self._engine.dispose()
                raise
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
            raise UserError(f"--usage-db {_masked(url)}: no such database ({error})") from None
        except (SQLAlchemyError, OSError) as error:
            raise UserError(
                f"--usage-db {_masked(url)}: cannot be opened ({_why(error)}); "
                "mend it or name another"
            ) from None

    def start(self) -> None:
        """Begins to write."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="usage", daemon=True)
            self._thread.start()

    def add(self, row: Used) -> None:
        """Takes one row; returns at once."""
        if len(self._waiting) >= _WAITING:
            self._outage.loses(full=f"{_WAITING:,} rows wait")
            return
        self._waiting.append((f"{self._process}-{next(self._numbers)}", row))

    def waiting(self) -> int:
        """Rows that are not written yet; more than a second's are a database that is away."""
        return len(self._waiting)

    def totals(self, by: str = "key", since: float = 0.0) -> list[Total]:
        """Sums by ``key`` or ``model``, of what was written.

        Raises:
            UserError: the database cannot be read.
        """
        column = USED.c.key_id if by == "key" else USED.c.model
        asked = (
            sql.select(
                column,
                sql.func.count(),
                sql.func.sum(USED.c.prompt_tokens),
                sql.func.sum(USED.c.completion_tokens),
            )
            .where(USED.c.at >= since)
            .group_by(column)
            .order_by(column)
        )
        try:
            with self._engine.connect() as connection:
                # A sum is a Decimal where a database has wider numbers for it.
                return [
                    Total(str(name), int(asks), int(prompt), int(completion))
                    for name, asks, prompt, completion in connection.execute(asked)
                ]
        except SQLAlchemyError as error:
            raise UserError(f"{self._engine.url!r}: cannot be read ({_why(error)})") from None

    def close(self) -> None:
        """Writes what waits, for a few seconds at most, and ends."""
        self._ends = time.monotonic() + _CLOSING_S
        self._stop.set()
        if self._thread is not None:
            # Longer than it tries: what it has in hand is then written or lost, and counted so.
            self._thread.join(2 * _CLOSING_S)
            self._thread = None
        self._outage.closes(len(self._waiting))
        self._waiting.clear()
        self._engine.dispose()

    def _write(self) -> None:
        while not self._stop.wait(_FLUSH_S):
            self._flush()
        while not self._flush() and time.monotonic() < self._ends:
            time.sleep(0.2)

    def _flush(self) -> bool:
        """Whether all was written."""
        size = _BATCH
        while self._waiting:
            rows = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
            try:
                self._keep(rows)
            except Exception as error:
                # Whatever it is: the one thread that writes must not end by it.
                if not _of_a_row(error):
                    # They wait for the next time, in their order.
                    self._waiting.extendleft(reversed(rows))
                    self._outage.begins(_why(error))
                    return False
                if len(rows) == 1:
                    self._outage.loses()
                    continue
                # One of them cannot be kept; the others must not wait for it.
                self._waiting.extendleft(reversed(rows))
                size = len(rows) // 2
            else:
                size = min(_BATCH, 2 * size)
                self._outage.ends()
        return True

    def _keep(self, rows: Sequence[tuple[str, Used]]) -> None:
        with self._engine.begin() as connection:
            if self._engine.dialect.name != "sqlite":
                values: list[dict[str, Any]] = [{"row": n, **row._asdict()} for n, row in rows]
                connection.execute(self._insert, values)
                return
            # With each statement its driver gives the interpreter to the others, and has to wait
            # for it again: one for many rows.
            start = 0
            while left := len(rows) - start:
                count = next(size for size in _TOGETHER if size <= left)
                part = rows[start : start + count]
                given = tuple(value for number, row in part for value in (number, *row))
                connection.exec_driver_sql(_together(count), given)
                start += count


@cache
def _together(rows: int) -> str:
    """What writes so many rows, each with the table's columns in their order."""
    places = [dict.fromkeys(USED.columns.keys())] * rows
    return str(_insert("sqlite").values(places).compile(dialect=sqlite.dialect()))


def _insert(dialect: str) -> sqlite.Insert | postgresql.Insert:
    """What writes rows, and leaves alone those that are there."""
    if dialect == "sqlite":
        return sqlite.insert(USED).on_conflict_do_nothing()
    if dialect == "postgresql":
        return postgresql.insert(USED).on_conflict_do_nothing()
    raise ArgumentError(f"{dialect} is not known here; give sqlite or postgresql")


def _make_table(engine: sql.Engine) -> None:
    """Makes what is not there, also where others make it at this moment, and tries it."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Its IF NOT EXISTS fails where two make one table at once; any number will do.
            connection.execute(sql.text("SELECT pg_advisory_xact_lock(7238141)"))
        connection.execute(CreateTable(USED, if_not_exists=True))
        for index in USED.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))
        connection.execute(sql.select(USED).limit(0))


def _of_a_row(error: Exception) -> bool:
    """Whether a row cannot be kept by any database, rather than none by this one now."""
    if isinstance(error, DataError | IntegrityError):
        return True
    if isinstance(error, SQLAlchemyError):
        # Of a value that a driver does not take.
        return isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    return isinstance(error, ValueError | TypeError | ArithmeticError)


def _own_file(database: str | None) -> None:
    """Makes SQLite's file for its owner alone; the files beside it follow its mode."""
    if not database or database == ":memory:":
        raise ArgumentError("SQLite in memory keeps nothing; name a file")
    if not database.startswith("file:"):
        os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))


def _durable(connection: Any, _record: Any) -> None:
    """SQLite with a write-ahead log: readers do not stop the writer, and a commit is on disk."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=2000")
    cursor.execute("PRAGMA journal_mode=WAL")
    # Not NORMAL: a commit or two a second may well wait for the disk.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return (str(getattr(error, "orig", error)).splitlines() or [type(error).__name__])[0]


def _masked(url: str) -> str:
    try:
        return sql.engine.make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        # What is no URL may still hold a password.
        return url[:8] + "..."
