"""The next generation of a sealed month in which some rows went through a profile, or are gone: see Store.rewrite.

Everything is done by SQLite on the thread of the rewrite, beside the writer: the new file is filled from the one in
use, window by window, with expressions for the fields; only what SQL cannot say (pseudonyms, allow-lists, addresses)
is a function of server.storage.treatment. Never in place: until it is adopted nobody sees any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retention.policy import Claim, Treatment
from server.apart import aside
from server.errors import Corrupt, Precondition
from server.model import MonthInfo, MonthState
from server.rewriting import Heard, Losses, OnWriter, Rewrite, Rewritten, claimed_by, losses_of, nobody
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema, steps
from server.storage.sqlite.claim_check import claim_holds
from server.storage.sqlite.content_digest import digest_on_two_cores
from server.storage.sqlite.dealing import deal_positions
from server.storage.sqlite.draft import WRITE_OUT_S, Draft, Halves
from server.storage.sqlite.held_rows import Marked, mark_held
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.numbers import UserKeys
from server.storage.treatment import DROPPED_SOURCE, PSEUDONYM_BYTES, PSEUDONYM_MARK, Treatments
from server.time_buckets import DAY_MS
from server.write_out import WriteOut

WINDOW_POSITIONS = 8_192


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Gives keys to users and sources, on the writer's thread."""

    users: UserKeys
    stored_source_key: Callable[[str], int]
    on_writer: OnWriter

    def reserve(self, count: int) -> int:
        """The first of so many keys in a row, for users whom nobody else knows."""
        return self.on_writer(lambda: self.users.reserve(count))

    def source_key(self, name: str) -> int:
        """The key of a source."""
        return self.on_writer(lambda: self.stored_source_key(name))


def rewrite(
    layout: Layout,
    store_id: str,
    info: MonthInfo,
    change: Rewrite,
    lost: Losses,
    dictionary: Dictionary,
    heard: Heard | None,
) -> Rewritten:
    """See Store.rewrite. `lost` is what the month lacks already. A large one is done in a process of its own."""
    if info.state is not MonthState.SEALED:
        raise Precondition(
            "MONTH_STATE", f"{info.month} is {info.state.value}; only sealed months are rewritten", hint="seal it first"
        )
    with sqlite.translated(layout.months / str(info.month)):
        size = layout.events(info.month, info.generation).stat().st_size
    rewritten = aside(
        size,
        layout.root,
        write,
        *(layout, store_id, info, change, lost),
        heard=heard or nobody,
        reserve=dictionary.reserve,
        source_key=dictionary.source_key,
    )
    steps.reached("described")
    with sqlite.translated(layout.months / str(info.month)):
        layout.publish(info.month, rewritten.rebuilt.generation)
    steps.reached("published")
    return rewritten


def write(
    layout: Layout,
    store_id: str,
    info: MonthInfo,
    change: Rewrite,
    lost: Losses,
    *,
    heard: Heard,
    reserve: Callable[[int], int],
    source_key: Callable[[str], int],
) -> Rewritten:
    """The next generation, as a draft that is complete and checked."""
    month, source = info.month, layout.events(info.month, info.generation)
    generation = layout.next_generation(month)
    with sqlite.translated(layout.months / str(month)):
        path = layout.draft(month, generation) / source.name
    steps.reached("drafted")
    halves = Halves(heard)
    with WriteOut(lambda: [path], WRITE_OUT_S):
        draft = _Rewriting(path, source, info, change, reserve, source_key)
        try:
            draft.prepare()
            draft.rows(halves.copied)
            steps.reached("copied")
            draft.take_over()
            digest = draft.indexed_beside(lambda: digest_on_two_cores(path, month, halves.read).hexdigest())
            steps.reached("indexed")
            checks, anonymous = draft.check()
        finally:
            draft.close()
    return Rewritten(
        rebuilt=draft.describe(store_id, generation, digest),
        rows_before=draft.rows_before,
        treated=draft.treated,
        withheld=draft.marked.withheld,
        bytes_before=source.stat().st_size,
        bytes_after=path.stat().st_size,
        claimed=claimed_by(change) if anonymous else None,
        checks=checks,
        lost=losses_of(change, lost),
    )


class _Rewriting(Draft):
    """A draft whose selected rows are not what they were.

    In the statements `e` is a row of the source, and `mine` says that it is selected and not held.
    """

    def __init__(
        self,
        path: Path,
        source: Path,
        info: MonthInfo,
        change: Rewrite,
        reserve: Callable[[int], int],
        source_key: Callable[[str], int],
    ) -> None:
        super().__init__(path, source, info, MonthState.SEALED)
        self._change = change
        self._reserve = reserve
        self._key_of_source = source_key
        self._rules = Treatments(change.profile) if change.profile else None
        self._form = 0
        self._source_key = 0
        self.rows_before = self.treated = self._kept = 0
        self.marked = Marked("0")

    def prepare(self) -> None:
        """Marks what is held, and makes what the statements need."""
        with sqlite.translated(self.path):
            connection = self.connection
            connection.execute("INSERT INTO main.forms SELECT key, profile, claim FROM source.forms")
            self.marked = mark_held(connection, "source", self.month, self._change.rows, self._change.holds)
            self.rows_before = connection.execute(f"SELECT count(*) FROM source.{self.events}").get
            if self._rules is None:
                return
            digest = self._rules.profile.digest
            # What can be claimed is found by the check; until then the rows claim nothing.
            sql = "INSERT INTO main.forms (profile, claim) VALUES (?, ?) RETURNING key"
            self._form = connection.execute(sql, (digest, Claim.PSEUDONYMOUS.value)).get
            for name, field in _FUNCTIONS:
                rule: Any = self._rules.text(field)
                connection.create_scalar_function(name, rule, 2, deterministic=True)
            connection.execute("INSERT OR IGNORE INTO main.users VALUES (0, '')")
            if not self._rules.keeps("source"):
                self._source_key = self._key_of_source(DROPPED_SOURCE)
                connection.execute("INSERT INTO main.sources VALUES (?, ?)", (self._source_key, DROPPED_SOURCE))
            if self._rules.rule("user_id").treatment is Treatment.REKEY:
                self._name_pseudonyms()
            if self._rules.deals_anew:
                deal_positions(connection, f"SELECT e.position FROM source.{self.events} e WHERE {self.marked.mine}")

    def _name_pseudonyms(self) -> None:
        """A user of its own for each day and user, in a table that the statements join. Only this month knows them.

        Their keys come in another order than those whom they stand for, drawn, like their names, by SQLite's own
        generator (ChaCha20, seeded by the operating system). By day first: rows come in about that order.
        """
        connection = self.connection
        connection.execute(
            "CREATE TEMP TABLE pseudonyms (day INTEGER, user INTEGER, key INTEGER NOT NULL, PRIMARY KEY (day, user)) "
            "WITHOUT ROWID; "
            "CREATE TEMP TABLE pairs (day INTEGER, user INTEGER, PRIMARY KEY (day, user)) WITHOUT ROWID"
        )
        connection.execute(
            f"INSERT INTO temp.pairs SELECT DISTINCT e.timestamp_ms / {DAY_MS}, e.user "
            f"FROM source.{self.events} e WHERE e.user <> 0 AND {self.marked.mine} ORDER BY 1, 2"
        )
        pairs: int = connection.execute("SELECT count(*) FROM temp.pairs").get
        first = self._reserve(pairs) if pairs else 0
        connection.execute(
            "INSERT INTO temp.pseudonyms SELECT day, user, ? + row_number() OVER (ORDER BY random()) "
            "FROM temp.pairs ORDER BY day, user",
            (first - 1,),
        )
        connection.execute(
            f"INSERT INTO main.users SELECT key, '{PSEUDONYM_MARK}' || lower(hex(randomblob({PSEUDONYM_BYTES}))) "
            "FROM temp.pseudonyms ORDER BY key"
        )
        connection.execute("DROP TABLE temp.pairs")

    # Rows

    def rows(self, heard: Heard) -> None:
        """Fills the table of events."""
        columns = ", ".join(schema.EVENT_COLUMNS)
        bounds = f"SELECT min(position), max(position) FROM source.{self.events}"
        copying = (
            f"INSERT INTO main.{self.events} ({columns}, form) SELECT {columns}, form FROM source.{self.events} e "
            f"WHERE e.position BETWEEN ? AND ? AND NOT {self.marked.mine} ORDER BY e.position"
        )
        statements = [copying]
        if self._rules is not None:
            statements.append(self._treating(self._rules, columns))
        with sqlite.translated(self.path):
            first, last = self.connection.execute(bounds).get
            done = [0] * len(statements)
            for low in range(first, last + 1, WINDOW_POSITIONS) if first is not None else ():
                for number, sql in enumerate(statements):
                    self.connection.execute(sql, (low, low + WINDOW_POSITIONS - 1))
                    done[number] += self.connection.changes()
                heard(sum(done))
        self._kept = done[0]
        self.treated = self.rows_before - self._kept

    def _treating(self, rules: Treatments, columns: str) -> str:
        day = f"e.timestamp_ms / {DAY_MS}"
        joins = []
        if rules.deals_anew:
            joins.append("JOIN temp.dealt d ON d.before = e.position")
        user = {Treatment.KEEP: "e.user", Treatment.REKEY: "coalesce(p.key, 0)"}.get(
            rules.rule("user_id").treatment, "0"
        )
        if "p.key" in user:
            joins.append(f"LEFT JOIN temp.pseudonyms p ON p.day = {day} AND p.user = e.user")
        made = {
            "position": "d.after" if rules.deals_anew else "e.position",
            "id": "randomblob(16)" if rules.deals_anew else "e.id",
            "type": "e.type",
            "user": user,
            "source": "e.source" if rules.keeps("source") else str(self._source_key),
            "timestamp_ms": _time(rules, "timestamp", "e.timestamp_ms"),
            "received_ms": _time(rules, "received", "e.received_ms"),
        }
        for name, field in _FUNCTIONS:
            if name in schema.EVENT_COLUMNS:
                made[name] = _text(rules, name, field, f"e.{name}", day)
        wanted = ", ".join(made[column] for column in schema.EVENT_COLUMNS)
        return (
            f"INSERT INTO main.{self.events} ({columns}, form) SELECT {wanted}, {self._form} "
            f"FROM source.{self.events} e {' '.join(joins)} "
            f"WHERE e.position BETWEEN ? AND ? AND {self.marked.mine} ORDER BY 1"
        )

    def changes(self) -> None:
        """Copies the changes, treated like the events that they belong to."""
        changes, columns = schema.changes_table(self.month), ", ".join(schema.CHANGE_COLUMNS)
        joined = f"FROM source.{changes} c JOIN source.{self.events} e ON e.position = c.position"
        plain = ", ".join(f"c.{column}" for column in schema.CHANGE_COLUMNS)
        self.connection.execute(
            f"INSERT INTO main.{changes} ({columns}) SELECT {plain} {joined} WHERE NOT {self.marked.mine}"
        )
        rules = self._rules
        if rules is None or rules.drops("change.outcome"):
            return
        day = f"e.timestamp_ms / {DAY_MS}"
        position = "d.after" if rules.deals_anew else "c.position"
        dealt = "JOIN temp.dealt d ON d.before = e.position" if rules.deals_anew else ""
        texts = dict(_FUNCTIONS)
        made = {
            name: _text(rules, name, texts[name], f"c.{name}", day) for name in schema.CHANGE_COLUMNS if name in texts
        }
        wanted = ", ".join(
            position if column == "position" else made.get(column, f"c.{column}") for column in schema.CHANGE_COLUMNS
        )
        self.connection.execute(
            f"INSERT INTO main.{changes} ({columns}) SELECT {wanted} {joined} {dealt} WHERE {self.marked.mine}"
        )

    # Names and numbers

    def used(self) -> str:
        """See Draft."""
        if self._rules is not None and not self._kept and self._rules.rule("user_id").treatment is not Treatment.KEEP:
            return "0"
        return self.has_events

    def stocks(self) -> str:
        """See Draft."""
        if self._rules is not None and not self._kept:
            return f"SELECT type, {self._form}, count(*) FROM main.{self.events} GROUP BY type"
        return super().stocks()

    # Checks

    def check(self) -> tuple[tuple[tuple[str, str], ...], bool]:
        """Compares what must not have changed; Corrupt if it has. What was checked, and whether the claim holds."""
        with sqlite.translated(self.path):
            for problem, sql in self._comparisons().items():
                if self.connection.execute(sql).get:
                    raise Corrupt(
                        "FILE_DAMAGED",
                        f"the new file of {self.month} is not what it should be: {problem}",
                        hint="run `trackd check`; look at the disk and the kernel log",
                    )
            anonymous = False
            checks = {"counts": "ok", "untouched": "ok"}
            if self._rules is not None and self._rules.profile.claim is Claim.ANONYMOUS:
                anonymous = claim_holds(self.connection, self.month, self._rules, self._form)
                checks["claim"] = "ok" if anonymous else "failed"
                if anonymous:
                    sql = "UPDATE main.forms SET claim = ? WHERE key = ?"
                    self.connection.execute(sql, (Claim.ANONYMOUS.value, self._form))
            return tuple(sorted(checks.items())), anonymous

    def _comparisons(self) -> dict[str, str]:
        """What would be wrong -> a statement that finds something if it is."""
        same = " AND ".join(f"m.{column} IS e.{column}" for column in (*schema.EVENT_COLUMNS, "form"))
        kept = f"SELECT e.type, count(*) FROM source.{self.events} e WHERE NOT {self.marked.mine} GROUP BY 1"
        whole = f"SELECT type, count(*) FROM source.{self.events} GROUP BY 1"
        there = f"SELECT type, count(*) FROM main.{self.events} GROUP BY 1"
        expected = kept if self._rules is None else whole
        lost = (
            f"SELECT 1 FROM source.{self.events} e WHERE NOT {self.marked.mine} AND NOT EXISTS "
            f"(SELECT 1 FROM main.{self.events} m WHERE m.position = e.position AND {same}) LIMIT 1"
        )
        return {
            "rows by type are missing": f"SELECT 1 FROM ({expected} EXCEPT {there})",
            "there are rows by type that were not there": f"SELECT 1 FROM ({there} EXCEPT {expected})",
            "rows that were to stay have changed": lost,
        }


_FUNCTIONS = (
    ("session_id", "session_id"),
    ("client_ip", "client_ip"),
    ("description", "description"),
    ("tags", "tags"),
    ("metadata", "metadata"),
    ("table_name", "change.table_name"),
    ("row_id", "change.row_id"),
    ("old_values", "change.old_values"),
    ("new_values", "change.new_values"),
)
"""(column and name of the function over it, field of the profile)."""


def _text(rules: Treatments, name: str, field: str, column: str, day: str) -> str:
    """The expression for a text. What SQLite can do itself needs no interpreter and no lock of it."""
    rule = rules.rule(field)
    if rules.keeps(field):
        return column
    if rule.treatment is Treatment.ALLOW and field != "tags" and not any(set(key) & set("\"\\'") for key in rule.keys):
        return _only_keys(column, rule.keys)
    return "''" if rules.drops(field) else f"CASE {column} WHEN '' THEN '' ELSE {name}({column}, {day}) END"


def _only_keys(column: str, keys: Sequence[str]) -> str:
    """Of a JSON object only these keys, the first of each, with their values as they are written; "" without any."""
    if not keys:
        return "''"
    parts = " || ".join(
        f"""iif({column} -> '$."{key}"' IS NULL, '', ',"{key}":' || ({column} -> '$."{key}"'))""" for key in keys
    )
    kept = f"nullif('{{' || substr({parts}, 2) || '}}', '{{}}')"
    return f"CASE WHEN json_valid({column}) THEN coalesce({kept}, '') ELSE '' END"


def _time(rules: Treatments, field: str, column: str) -> str:
    rule = rules.rule(field)
    if rule.treatment is Treatment.ROUND:
        return f"{column} / {rule.grain_ms} * {rule.grain_ms}"
    return column if rule.treatment is Treatment.KEEP else "0"
