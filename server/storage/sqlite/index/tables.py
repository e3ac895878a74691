"""The tables of an index, and how its columns are numbered."""

from __future__ import annotations

from enum import IntEnum

CHUNK_ROWS = 4_096
"""A scan reads 16 KB at a time."""
LOOKUP_ROWS = 1_024
"""By user, chunks are smaller: a lookup reads one chunk of each run, of which it needs a few rows."""
PAGE_BYTES = 16_384
WAL_PAGES = 1_024
"""Above 16 MiB the log is copied back by the commit that makes it so, on the folder's thread."""
CACHE_BYTES = 2 * 1024 * 1024


class Projection(IntEnum):
    """The three orders that rows are kept in."""

    BY_USER = 1
    BY_TYPE = 2
    BY_LABEL = 3


class Slot(IntEnum):
    """The columns of a chunk."""

    TIME = 0
    POSITION = 1
    TYPE = 2
    USER = 3
    SOURCE = 4
    LABEL = 5


LAYOUT = 2
"""Of the tables below. An index of another layout is replaced."""

SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
  run INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given again: readers know runs by their numbers
  rows INTEGER NOT NULL,
  first INTEGER NOT NULL,         -- positions, inclusive
  last INTEGER NOT NULL,
  covered TEXT NOT NULL           -- a JSON array of [type, metadata key]: dimensions whose values all have labels
) STRICT;
CREATE TABLE chunks (
  run INTEGER NOT NULL,
  projection INTEGER NOT NULL,
  number INTEGER NOT NULL,
  low INTEGER NOT NULL,           -- the lead of its first row, and of its last
  high INTEGER NOT NULL,
  early INTEGER NOT NULL,         -- milliseconds into the month
  late INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  PRIMARY KEY (run, projection, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE columns (
  id INTEGER PRIMARY KEY,         -- run, projection, chunk, slot: see column_id
  data BLOB NOT NULL
) STRICT;
CREATE TABLE quarters (
  run INTEGER NOT NULL,
  type INTEGER NOT NULL,
  data BLOB NOT NULL,             -- slots, sources, events
  PRIMARY KEY (run, type)
) STRICT;
CREATE TABLE days (
  run INTEGER NOT NULL,
  zone TEXT NOT NULL,
  data BLOB NOT NULL,             -- types, days, events, users, and where their sets begin in people.data
  PRIMARY KEY (run, zone)
) STRICT;
CREATE TABLE people (
  run INTEGER NOT NULL,
  zone TEXT NOT NULL,
  type INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (run, zone, type)
) STRICT;
CREATE TABLE labels (
  label INTEGER PRIMARY KEY,
  type INTEGER NOT NULL,          -- -1: a tag
  field TEXT NOT NULL,            -- the metadata key; of a tag ''
  value TEXT NOT NULL,
  UNIQUE (type, field, value)
) STRICT;
"""

SNAPSHOT = """
SELECT (SELECT value FROM about WHERE key = 'watermark'), (SELECT value FROM about WHERE key = 'removals'),
  (SELECT json_group_array(json_array(run, rows, first, last, covered)) FROM (SELECT * FROM runs ORDER BY first))
"""

CONTENTS = """
SELECT
  (SELECT json_group_array(json_array(projection, low, high, early, late, rows))
   FROM (SELECT * FROM chunks WHERE run = :run ORDER BY projection, number)),
  (SELECT json_group_array(type) FROM quarters WHERE run = :run),
  (SELECT json_group_array(zone) FROM days WHERE run = :run)
"""

_SLOT_BITS, _CHUNK_BITS, _PROJECTION_BITS = 3, 24, 2


def column_id(run: int, projection: int, chunk: int) -> int:
    """The id of the first column of a chunk; its slots follow. Rising by run, projection and chunk."""
    return ((run << _PROJECTION_BITS | projection) << _CHUNK_BITS | chunk) << _SLOT_BITS


TAG = -1
"""Stands for a type where a label is a tag."""
