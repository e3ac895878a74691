"""The tables of the two kinds of files: the catalog, and a month.

All tables are STRICT. A file says in its table `about` what it is, so that it can be understood alone; `PRAGMA
application_id` marks it for file(1). A `format_version` above ours is refused.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from retention.month import Month
from server.errors import Corrupt
from server.storage.sqlite import connection as sqlite

FORMAT_VERSION = 1
APPLICATION_ID = 0x54524B44
"""The letters TRKD."""

CATALOG = """
CREATE TABLE about (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE months (
  month TEXT PRIMARY KEY,       -- YYYY-MM
  generation INTEGER NOT NULL,  -- the file it lives in now; committing this row is what swaps a file
  state TEXT NOT NULL,
  last_position INTEGER NOT NULL DEFAULT 0  -- of a month that was dropped: nothing of it lay behind this
) STRICT, WITHOUT ROWID;
-- What may be given out next after a restart. Everything below may have been used.
CREATE TABLE reserved (name TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE types (
  key INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL DEFAULT '',
  registered_ms INTEGER NOT NULL,
  declared INTEGER NOT NULL,    -- 1: somebody registered it; 0: its first event did
  dimensions TEXT NOT NULL DEFAULT '[]'  -- a JSON array of metadata keys
) STRICT;
CREATE TABLE sources (
  key INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  dropped INTEGER NOT NULL DEFAULT 0  -- 1: it stored events of months that were dropped
) STRICT;
-- Derived: the union of the months' dictionaries for keys below about.users_complete; newer ones are in months only.
CREATE TABLE users (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
"""

RECORDS = """
-- What retention did, and what it has to know (server.storage.records). Holds may name people; evidence names nobody.
CREATE TABLE IF NOT EXISTS evidence (sequence INTEGER PRIMARY KEY, line TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS holds (
  code TEXT PRIMARY KEY,
  released_ms INTEGER,
  document TEXT NOT NULL        -- a JSON object: what it selects, why, since when
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS copies (
  month TEXT NOT NULL,          -- YYYY-MM
  name TEXT NOT NULL,
  document TEXT NOT NULL,       -- a JSON object: the fields of retention.facts.Copy
  PRIMARY KEY (month, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS losses (
  month TEXT NOT NULL,          -- YYYY-MM
  type TEXT NOT NULL,
  gone INTEGER NOT NULL,        -- 1: rows were dropped
  users INTEGER NOT NULL,       -- 1: distinct users are not those of the rows
  grain_ms INTEGER NOT NULL,    -- times are rounded to this; 0: they are not
  since_ms INTEGER NOT NULL,
  source INTEGER NOT NULL DEFAULT 0, -- 1: sources are not those of the rows
  PRIMARY KEY (month, type)
) STRICT, WITHOUT ROWID;
"""

NUMBERS = """
-- Numbers that stay when rows change or go (server.frozen): counted once, never again. Of users only how many.
CREATE TABLE IF NOT EXISTS daily_metrics (
  metric_date TEXT NOT NULL,       -- a day of UTC, YYYY-MM-DD
  event_type TEXT NOT NULL,        -- '' stands for all types together
  event_count INTEGER NOT NULL,
  unique_users INTEGER NOT NULL,   -- nobody ('') is none
  last_updated INTEGER NOT NULL,   -- when it was counted, milliseconds since the epoch
  PRIMARY KEY (metric_date, event_type)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frozen_cells (
  month TEXT NOT NULL,             -- YYYY-MM
  event_type TEXT NOT NULL,
  zone TEXT NOT NULL,
  grain TEXT NOT NULL,             -- day, week or month of that zone; days of UTC are in daily_metrics
  bucket_ms INTEGER NOT NULL,      -- when it begins; it counts as far as it lies in the month
  event_count INTEGER NOT NULL,
  unique_users INTEGER NOT NULL,
  PRIMARY KEY (month, event_type, zone, grain, bucket_ms)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frozen_types (
  month TEXT NOT NULL,             -- YYYY-MM
  event_type TEXT NOT NULL,
  zones TEXT NOT NULL,             -- a JSON array: those of its cells
  last_position INTEGER NOT NULL,  -- none of the month's events lay behind it
  sources TEXT NOT NULL,           -- a JSON array
  quarters BLOB NOT NULL,          -- events by quarter-hour and source: see server/storage/sqlite/frozen_numbers.py
  PRIMARY KEY (month, event_type)
) STRICT;
-- Types whose rows were made anonymous: of their numbers only those are left that stand for k users (server.frozen).
CREATE TABLE IF NOT EXISTS coarse_types (
  month TEXT NOT NULL,             -- YYYY-MM
  event_type TEXT NOT NULL,
  k INTEGER NOT NULL,
  users TEXT NOT NULL,             -- a JSON array: the grains whose users are told; of others unique_users is 0
  PRIMARY KEY (month, event_type)
) STRICT, WITHOUT ROWID;
"""

REMOVED = """
-- Erased events that an index may still have; about.removals is the last generation, about.removals_purged the last one
-- that every index has applied.
CREATE TABLE IF NOT EXISTS removed (
  generation INTEGER NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (generation, position)
) STRICT, WITHOUT ROWID
"""

SORT_CACHE_BYTES = 1024 * 1024
"""The cache of a connection that builds indexes by sorting.

SQLite sorts as many keys at a time as its cache would hold, and merges what it has written into temporary files: a
million bytes stay in the processor's cache. With temp_store = memory it sorts them all at once, which takes twice as
long and 80 bytes of memory a row. Files hold 40 bytes a row of one index.
"""

EVENT_COLUMNS = (
    "position",
    "id",
    "type",
    "user",
    "source",
    "timestamp_ms",
    "received_ms",
    "session_id",
    "client_ip",
    "description",
    "tags",
    "metadata",
)
CHANGE_COLUMNS = (
    "position",
    "table_name",
    "row_id",
    "action",
    "old_values",
    "new_values",
    "status",
    "rows_affected",
)


def events_table(month: Month) -> str:
    """The name of the month's table of events: the file reads naturally in any SQLite tool."""
    return f"events_{month.compact}"


def changes_table(month: Month) -> str:
    """The name of the month's table of changes."""
    return f"changes_{month.compact}"


def month_schema(month: Month) -> str:
    """The tables of a month that takes events.

    Nothing but the id is indexed: each further index would dirty a random page for every row (see DESIGN.md). The
    dictionary rows that the month uses are in the month, so that one transaction holds all that a row needs.
    """
    return _month_schema(month, "id BLOB NOT NULL UNIQUE,        -- 16 bytes")


def sealed_schema(month: Month) -> str:
    """The tables of a sealed month: the same, but indexed by `sealed_indexes` after the last row is in."""
    events, changes = events_table(month), changes_table(month)
    identity = "id BLOB NOT NULL,               -- 16 bytes"
    return f"""{_month_schema(month, identity, FORM)}
-- What rows went through: a profile of the retention policy, by the digest of its rules.
CREATE TABLE forms (key INTEGER PRIMARY KEY, profile TEXT NOT NULL, claim TEXT NOT NULL) STRICT;
CREATE TABLE stocks (type INTEGER NOT NULL, form INTEGER NOT NULL, rows INTEGER NOT NULL, PRIMARY KEY (type, form))
STRICT, WITHOUT ROWID;
-- For people: names instead of keys, times that can be read.
CREATE VIEW events AS
SELECT e.position, lower(hex(e.id)) AS id, t.name AS type, u.name AS user_id, s.name AS source,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.timestamp_ms / 1000.0, 'unixepoch') AS time,
  e.session_id, e.client_ip, e.description, e.tags, e.metadata
FROM {events} e JOIN types t ON t.key = e.type JOIN users u ON u.key = e.user JOIN sources s ON s.key = e.source;
CREATE VIEW changes AS
SELECT v.*, c.table_name, c.row_id, c.old_values, c.new_values, c.rows_affected,
  CASE c.action WHEN 1 THEN 'create' WHEN 2 THEN 'update' WHEN 3 THEN 'delete' END AS action,
  CASE c.status WHEN 1 THEN 'success' WHEN 2 THEN 'failed' END AS status
FROM {changes} c JOIN events v ON v.position = c.position;
"""


def sealed_indexes(month: Month) -> str:
    """The indexes of a sealed month, built by sorting."""
    events = events_table(month)
    return f"""
CREATE UNIQUE INDEX {events}_id ON {events} (id);
CREATE INDEX {events}_user ON {events} (user, type, timestamp_ms DESC);
CREATE INDEX {events}_type ON {events} (type, timestamp_ms DESC);
"""


FORM = """
  , form INTEGER NOT NULL DEFAULT 0          -- forms.key; 0: as it was sent"""


def _month_schema(month: Month, identity: str, more: str = "") -> str:
    return f"""
CREATE TABLE about (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE {events_table(month)} (
  position INTEGER PRIMARY KEY,
  {identity}
  type INTEGER NOT NULL,          -- types.key
  user INTEGER NOT NULL,          -- users.key; 0 is nobody
  source INTEGER NOT NULL,        -- sources.key
  timestamp_ms INTEGER NOT NULL,  -- when it happened, UTC; decides the month
  received_ms INTEGER NOT NULL,
  session_id TEXT NOT NULL DEFAULT '',
  client_ip TEXT NOT NULL DEFAULT '',
  description TEXT NOT NULL DEFAULT '',
  tags TEXT NOT NULL DEFAULT '',             -- a JSON array of texts, or ''
  metadata TEXT NOT NULL DEFAULT ''          -- a JSON object, or ''{more}
) STRICT;
CREATE TABLE {changes_table(month)} (
  position INTEGER PRIMARY KEY,   -- of its event
  table_name TEXT NOT NULL,
  row_id TEXT NOT NULL,
  action INTEGER NOT NULL,        -- 1 create, 2 update, 3 delete
  old_values TEXT NOT NULL,       -- a JSON object, or ''
  new_values TEXT NOT NULL,
  status INTEGER NOT NULL,        -- 1 success, 2 failed
  rows_affected INTEGER
) STRICT;
CREATE TABLE types (key INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE users (key INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE sources (key INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
"""


def create(connection: apsw.Connection, ddl: str, about: dict[str, object]) -> None:
    """Lays out an empty file, in one transaction."""
    # Not the driver's `with connection`: where SQLite has rolled back already, its own rollback hides the first error.
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(ddl)
        rows = {"format_version": FORMAT_VERSION, **about}
        connection.executemany("INSERT INTO about VALUES (?, ?)", list(rows.items()))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def lay_out(path: Path, ddl: str, about: dict[str, object], *, page_bytes: int = 4_096) -> None:
    """Makes a new empty file without caring for its durability: whoever publishes the file does, once for all of it."""
    with sqlite.translated(path):
        connection = apsw.Connection(str(path))
        connection.pragma("page_size", page_bytes)
        connection.pragma("journal_mode", "off")
        connection.pragma("synchronous", "off")
        create(connection, ddl, about)
        connection.close()


def read_about(connection: apsw.Connection, path: Path) -> dict[str, object]:
    """What the file says about itself; Corrupt if it is none of ours or newer than this program."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'about'").get:
        raise Corrupt("FILE_DAMAGED", f"{path.name} is not a file of trackd", hint="do not put other files here")
    about: dict[str, object] = dict(connection.execute("SELECT key, value FROM about"))
    version = about.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise Corrupt(
            "FORMAT_TOO_NEW",
            f"{path.name} has format version {version}; this trackd knows {FORMAT_VERSION}",
            hint="run the trackd that wrote it, or a newer one",
        )
    return about
