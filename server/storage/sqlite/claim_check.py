"""Whether rows that went through a profile may be called anonymous: checked on the rows, not on the profile.

GDPR Recital 26: nobody may be singled out by means likely to be used. Two things are looked for, over all the rows of
the form: a combination of everything that is left of an event that fewer than k users had (k-anonymity), and a sequence
of events that one pseudonym still ties together and fewer than k pseudonyms share. A month-long trace is a fingerprint,
whatever its columns say.
"""

from __future__ import annotations

import apsw

from retention.month import Month
from server.storage.sqlite.schema import changes_table, events_table
from server.storage.treatment import Treatments

CELL = "m.type, m.source, m.timestamp_ms, m.tags, m.metadata, m.client_ip"
CHANGE = "coalesce(c.table_name, ''), coalesce(c.row_id, ''), coalesce(c.action, 0), coalesce(c.status, 0)"


def claim_holds(connection: apsw.Connection, month: Month, rules: Treatments, form: int) -> bool:
    """Whether the rows of this form in `main` keep the claim; who they were is in `source`, by temp.dealt."""
    events, changes, k = events_table(month), changes_table(month), rules.profile.k
    rows = f"main.{events} m LEFT JOIN main.{changes} c ON c.position = m.position"
    singled_out = (
        f"SELECT 1 FROM {rows} JOIN temp.dealt d ON d.after = m.position "
        f"JOIN source.{events} e ON e.position = d.before "
        f"WHERE m.form = {form} GROUP BY {CELL}, {CHANGE} HAVING count(DISTINCT e.user) < {k} LIMIT 1"
    )
    if connection.execute(singled_out).get:
        return False
    for tie, field in (("m.user", "user_id"), ("m.session_id", "session_id")):
        if rules.drops(field):
            continue
        nobody = "0" if tie == "m.user" else "''"
        step = f"json_array({CELL}, {CHANGE})"
        traces = (
            f"SELECT string_agg({step}, ',' ORDER BY {step}) AS trace FROM {rows} "
            f"WHERE m.form = {form} AND {tie} <> {nobody} GROUP BY {tie}"
        )
        if connection.execute(f"SELECT 1 FROM ({traces}) GROUP BY trace HAVING count(*) < {k} LIMIT 1").get:
            return False
    return True
