"""What every key has used, kept in a database: SQLite by default, any other by URL.

Rows are handed to a thread that writes them at least twice a second, so that a kill loses no more
than the last second, and a request never waits for a disk. While the database is away rows wait
in memory, up to a bound; what is beyond it is counted as lost and never in silence.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pipeline.core.errors import UserError

_FLUSH_S = 0.4
_WAITING = 100_000
_BATCH = 1_000

_META = sql.MetaData()
USED = sql.Table(
    "used",
    _META,
    sql.Column("request_id", sql.String(64), nullable=False),
    sql.Column("at", sql.Float, nullable=False, index=True),
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
class Used:
    """One answered request.

    Attributes:
        at: seconds since the epoch, when it was over.
        request_id: as in the log and in x-request-id.
        key_id: of the key, empty without keys.
        model, version, route: what was asked.
        prompt_tokens, completion_tokens: as the engine counts them.
        status: of the answer; 499 where the client went first.
        latency_s: from the request's head to the last byte.
        stream: the answer came in pieces.
    """

    at: float
    request_id: str
    key_id: str
    model: str
    version: str
    route: str
    prompt_tokens: int
    completion_tokens: int
    status: int
    latency_s: float
    stream: bool


@dataclass(frozen=True)
class Total:
    """Sums of one key or model."""

    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


class UsageStore:
    """The table of usage."""

    def __init__(self, url: str, lost: Callable[[str], None] = lambda _what: None) -> None:
        """
        Args:
            url: SQLAlchemy's, such as ``sqlite:////var/lib/gradus/usage.db``.
            lost: told "usage" for each row that could not be kept.

        Raises:
            UserError: no such kind of database, or it cannot be opened.
        """
        self._lost = lost
        self._waiting: deque[Used] = deque()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        try:
            self._engine = sql.create_engine(url, pool_pre_ping=True)
            if self._engine.dialect.name == "sqlite":
                sql.event.listen(self._engine, "connect", _durable)
            _META.create_all(self._engine)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise UserError(f"--usage-db {_masked(url)}: no such database ({error})") from None
        except SQLAlchemyError as error:
            why = str(getattr(error, "orig", error)).splitlines()[0]
            raise UserError(f"--usage-db {_masked(url)}: cannot be opened ({why})") from None

    def start(self) -> None:
        """Begins to write."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="usage", daemon=True)
            self._thread.start()

    def add(self, row: Used) -> None:
        """Takes one row; returns at once."""
        if len(self._waiting) >= _WAITING:
            self._lost("usage")
            return
        self._waiting.append(row)

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return len(self._waiting)

    def totals(self, by: str = "key", since: float = 0.0) -> list[Total]:
        """Sums by ``key`` or ``model``, of what was written."""
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
        with self._engine.connect() as connection:
            return [Total(*row) for row in connection.execute(asked)]

    def close(self) -> None:
        """Writes what waits, for a few seconds at most, and ends."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None
        for _ in range(len(self._waiting)):
            self._lost("usage")
        self._waiting.clear()
        self._engine.dispose()

    def _write(self) -> None:
        while True:
            self._wake.wait(_FLUSH_S)
            stopping = self._stop.is_set()
            self._flush()
            if stopping:
                return

    def _flush(self) -> None:
        while self._waiting:
            rows = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                self._insert(rows)
            except SQLAlchemyError:
                # They wait for the next time, in their order.
                self._waiting.extendleft(reversed(rows))
                if self._stop.is_set():
                    time.sleep(0.2)
                return

    def _insert(self, rows: Sequence[Used]) -> None:
        values: list[dict[str, Any]] = [asdict(row) for row in rows]
        with self._engine.begin() as connection:
            connection.execute(USED.insert(), values)


def _durable(connection: Any, _record: Any) -> None:
    """SQLite with a write-ahead log: readers do not stop the writer, and a commit is on disk."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=2000")
    cursor.close()


def _masked(url: str) -> str:
    try:
        return sql.engine.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        # What is no URL may still hold a password.
        return url[:8] + "..."
