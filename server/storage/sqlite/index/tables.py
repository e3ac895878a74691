"""The tables of an index, and how its columns are numbered."""

from __future__ import annotations

from enum import IntEnum

CHUNK_ROWS = 4_096
"""A lookup reads one chunk of a run: 100 KB; a scan reads 16 KB at a time.

Chunks of 1,024 were no faster to look up in (there are four times as many to choose from) and slower to scan."""
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


SLOTS = len(Slot)

SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
  run INTEGER PRIMARY KEY,
  rows INTEGER NOT NULL,
  first INTEGER NOT NULL,         -- positions, inclusive
  last INTEGER NOT NULL,
  covered TEXT NOT NULL           -- a JSON array of [type, metadata key]: dimensions whose values all have labels
) STRICT;
CREATE TABLE chunks (
  run INTEGER NOT NULL,
  projection INTEGER NOT NULL,
  high INTEGER NOT NULL,          -- the lead of its last row, and of its first
  number INTEGER NOT NULL,
  low INTEGER NOT NULL,
  early INTEGER NOT NULL,         -- milliseconds into the month
  late INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  columns INTEGER NOT NULL,       -- columns.id of its first column
  PRIMARY KEY (run, projection, high, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE columns (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
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

TAG = -1
"""Stands for a type where a label is a tag."""
