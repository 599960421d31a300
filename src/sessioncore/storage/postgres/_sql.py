"""The statements of the PostgreSQL storage: one for each storage call; `_schema` has the table.

Only the database's clock is used. Nothing here talks to a server.
"""

import re
from hashlib import sha256

from msgspec import Struct, structs

from sessioncore._storage_protocol import PROBE_SUFFIX
from sessioncore.storage._text import bytes_of
from sessioncore.storage.postgres._schema import index_name, quoted

__all__ = ["Statements", "owner_bytes", "prefix_range", "statements"]

# A B-tree entry has 2704 bytes at most; a longer owner than this is stored as its digest.
_OWNER_MAX = 1024
_DIGEST_MARK = b"\x00sha256:"


def owner_bytes(owner: str | None) -> bytes | None:
    """Return `owner` as it is stored: as it is, or as its digest if it is too long for an index."""
    if owner is None:
        return None
    raw = bytes_of(owner)
    # An owner that looks like a digest is digested too, so that it cannot pass for a long owner.
    if len(raw) > _OWNER_MAX or raw.startswith(_DIGEST_MARK):
        return _DIGEST_MARK + sha256(raw).hexdigest().encode()
    return raw


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """Return the bounds, low inclusive and high exclusive, of all keys that begin with `prefix`."""
    low = bytes_of(prefix)
    # No encoded key contains 0xFF: it sorts after all keys, and every last byte can be increased by one.
    return low, low[:-1] + bytes([low[-1] + 1]) if low else b"\xff"


# Seconds left; NULL for a row that ends at infinity, which is not ours (and the server cannot subtract from it).
_TTL = "CASE WHEN isfinite(expires_at) THEN extract(epoch FROM expires_at - now())::float8 END"

# A standby lags behind: there a session is unknown that was just stored, and one that was ended lives on. So this
# condition of each read fails there, as a write does; it is asked once per statement, even if no row matches. Some
# poolers send reads to standbys; pgpool leaves those alone that call a volatile function, as this does.
_ON_PRIMARY = "(SELECT CASE WHEN pg_is_in_recovery() THEN txid_current() IS NULL ELSE true END)"

_IS_SESSION = f"key NOT LIKE '%{PROBE_SUFFIX}'::bytea"

_MAY_WRITE = "version = $5 AND moved_to IS NULL AND isfinite(expires_at)"

# Compare and set in one UPDATE that matches the live row whatever its version. In READ COMMITTED an UPDATE
# waits for a concurrent writer and then evaluates the row that this writer left, so the answer is always about
# the newest row. With a condition on the version and a SELECT beside it, the SELECT would see the statement's
# snapshot: it could return an outdated record as the current one, or one that was moved as live.
_COMPARE_AND_SET = """
UPDATE %table% SET %key%
    data = CASE WHEN %may_write% THEN $2::bytea ELSE data END,
    expires_at = CASE WHEN %may_write% THEN %after_3% ELSE expires_at END,
    purge_after = CASE WHEN %may_write% THEN least(purge_after, %after_3%) ELSE purge_after END,
    owner = CASE WHEN %may_write% THEN $4::bytea ELSE owner END,
    version = CASE WHEN %may_write% THEN $6::bigint ELSE version END
WHERE key = $1 AND expires_at > now()
RETURNING version, CASE WHEN version <> $6 THEN data END AS data, moved_to, %ttl% AS ttl
"""

# The row at the old key stays and becomes the tombstone, so that a call that waits for its lock sees the move.
_MOVE_WITH_TOMBSTONE = """
WITH old AS (
    UPDATE %table% SET
        data = CASE WHEN %may_write% THEN '' ELSE data END,
        expires_at = CASE WHEN %may_write% THEN %after_8% ELSE expires_at END,
        purge_after = CASE WHEN %may_write% THEN least(purge_after, %after_8%) ELSE purge_after END,
        owner = CASE WHEN %may_write% THEN NULL ELSE owner END,
        moved_to = CASE WHEN %may_write% THEN $7::bytea ELSE moved_to END,
        version = CASE WHEN %may_write% THEN $6::bigint ELSE version END
    WHERE key = $1 AND expires_at > now()
    RETURNING version, CASE WHEN version <> $6 THEN data END AS data, moved_to, %ttl% AS ttl
), new AS (
    INSERT INTO %table% (key, data, expires_at, purge_after, owner, version)
    SELECT $7, $2, %after_3%, %after_3%, $4, $6
    FROM old WHERE version = $6
)
SELECT version, data, moved_to, ttl FROM old
"""


class Statements(Struct, frozen=True):
    """The statements for one table, each complete in itself: one storage call, one statement.

    The defaults are templates, which `statements` fills in; `%after_3%` is the time that is $3 seconds from now.
    """

    load: str = """
SELECT data, version, moved_to, %ttl% AS ttl
FROM %table% WHERE key = $1 AND expires_at > now() AND %on_primary%
"""
    load_many: str = """
SELECT key, data, version, moved_to, %ttl% AS ttl
FROM %table% WHERE key = ANY($1::bytea[]) AND expires_at > now() AND %on_primary%
"""
    renew: str = """
UPDATE %table% SET
    expires_at = CASE WHEN moved_to IS NULL AND isfinite(expires_at) THEN %after_2% ELSE expires_at END,
    purge_after = least(purge_after, %after_2%)
WHERE key = $1 AND expires_at > now()
RETURNING data, version, moved_to, %ttl% AS ttl
"""
    # An expired row that was not purged yet is overwritten; DO UPDATE evaluates the newest row, under its lock.
    create: str = """
INSERT INTO %table% AS old (key, data, expires_at, purge_after, owner, version)
VALUES ($1, $2, %after_3%, %after_3%, $4, $5)
ON CONFLICT (key) DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at,
    purge_after = excluded.purge_after, owner = excluded.owner, version = excluded.version, moved_to = NULL
WHERE old.expires_at <= now()
RETURNING version
"""
    replace: str = _COMPARE_AND_SET.replace("%key%", "")
    move: str = _COMPARE_AND_SET.replace("%key%", "key = CASE WHEN %may_write% THEN $7::bytea ELSE key END,")
    move_with_tombstone: str = _MOVE_WITH_TOMBSTONE
    touch: str = """
UPDATE %table% SET expires_at = %after_2%, purge_after = least(purge_after, %after_2%)
WHERE key = $1 AND expires_at > now() AND moved_to IS NULL AND isfinite(expires_at) RETURNING version
"""
    # `chain` is what the statement's snapshot shows: the rows, and those that their tombstones lead to. `locked` is
    # what they have become, once no writer is at them any more. If some were moved in between, nothing is deleted, and
    # `moved` says where to: rows that this snapshot does not show. Rows are locked in the order of their keys, so two
    # such calls cannot deadlock. LIMIT keeps the planner from reading the whole table for a join, and ARRAY(SELECT)
    # from expecting so many rows that it compiles the statement first (JIT), which takes two seconds.
    delete: str = """
WITH RECURSIVE chain AS (
    SELECT key, CASE WHEN expires_at > now() THEN moved_to END AS next FROM %table%
    WHERE key = ANY(ARRAY(SELECT unnest($1::bytea[])))
    UNION
    SELECT t.key, CASE WHEN t.expires_at > now() THEN t.moved_to END
    FROM chain CROSS JOIN LATERAL (SELECT * FROM %table% WHERE key = chain.next LIMIT 1) AS t
), locked AS (
    SELECT key, CASE WHEN expires_at > now() THEN moved_to END AS next FROM %table%
    WHERE key = ANY(ARRAY(SELECT key FROM chain)) ORDER BY key FOR UPDATE
), moved AS (
    SELECT coalesce(locked.next, key) AS key FROM chain JOIN locked USING (key)
    WHERE locked.next IS DISTINCT FROM chain.next
), gone AS (
    DELETE FROM %table% WHERE key = ANY(ARRAY(SELECT key FROM locked)) AND NOT EXISTS (SELECT FROM moved)
    RETURNING moved_to IS NULL AND expires_at > now() AS live
)
SELECT count(*) FILTER (WHERE live) AS live, ARRAY(SELECT key FROM moved) AS moved FROM gone
"""
    clear_batch: str = """
WITH gone AS (DELETE FROM %table% WHERE key = ANY(ARRAY(
    SELECT key FROM %table% WHERE key >= $1 AND key < $2 AND %session% ORDER BY key LIMIT $3 FOR UPDATE
)) RETURNING moved_to IS NULL AND expires_at > now() AS live)
SELECT count(*) AS ended, count(*) FILTER (WHERE live) AS live FROM gone
"""
    # One DELETE over the whole range also ends a record that is being moved within it; batches could miss it. If the
    # move leaves a tombstone, the DELETE meets that, and is run again.
    clear_rest: str = """
WITH gone AS (
    DELETE FROM %table% WHERE key >= $1 AND key < $2 AND %session% RETURNING moved_to, expires_at > now() AS live
)
SELECT count(moved_to) AS tombstones, count(*) FILTER (WHERE moved_to IS NULL AND live) AS live FROM gone
"""
    scan: str = """
SELECT key, moved_to IS NULL AND isfinite(expires_at) AND expires_at > now() AS live
FROM %table% WHERE key >= $1 AND key < $2 AND %on_primary% ORDER BY key LIMIT $3
"""
    # A row that never ends is not ours, and holds nothing.
    held: str = """
SELECT key, version, moved_to
FROM %table% WHERE key = ANY($1::bytea[]) AND expires_at > now() AND isfinite(expires_at) AND %on_primary%
"""
    owned_keys: str = "SELECT key FROM %table% WHERE owner = $1 AND expires_at > now() AND %on_primary%"
    # A renewal leaves `purge_after` behind; what is due but alive is put off here, until its present end.
    purge_batch: str = """
WITH due AS (
    SELECT key, expires_at <= now() AS expired FROM %table%
    WHERE purge_after <= now() ORDER BY purge_after LIMIT $1 FOR UPDATE SKIP LOCKED
), alive AS (
    UPDATE %table% SET purge_after = expires_at WHERE key = ANY(ARRAY(SELECT key FROM due WHERE NOT expired))
), gone AS (DELETE FROM %table% WHERE key = ANY(ARRAY(SELECT key FROM due WHERE expired)) RETURNING moved_to)
SELECT (SELECT count(*) FROM due) AS seen, (SELECT count(*) FROM gone WHERE moved_to IS NULL) AS ended
"""
    delete_expired: str = "DELETE FROM %table% WHERE key = $1 AND expires_at <= now() RETURNING key"
    # Writes nothing, and fails where a write would: for a missing right, table, column or primary key, and on a
    # standby. Returns what weakens a promise: indexes that are missing, an UNLOGGED table, or a policy that can hide
    # rows, because one that is not `true` decides for the role about SELECT, UPDATE or DELETE.
    check: str = """
WITH creates AS (
    INSERT INTO %table% (key, owner, version, expires_at, purge_after, data, moved_to)
    SELECT '', NULL, 0, now(), now(), '', NULL WHERE false ON CONFLICT (key) DO NOTHING
), renews AS (UPDATE %table% SET expires_at = now() WHERE false), ends AS (DELETE FROM %table% WHERE false)
SELECT 'index' AS weakness, name FROM unnest(ARRAY['%owner_index%', '%purge_index%']) AS name
WHERE to_regclass(name) IS NULL OR EXISTS (SELECT FROM %table% WHERE false)
UNION ALL SELECT 'unlogged', NULL FROM pg_class WHERE oid = to_regclass('%table%') AND relpersistence = 'u'
UNION ALL SELECT 'policy', NULL WHERE row_security_active('%table%') AND EXISTS (
    SELECT FROM unnest('{r,w,d}'::"char"[]) AS command LEFT JOIN pg_policy AS policy
        ON polrelid = to_regclass('%table%') AND polcmd IN (command, '*')
        AND EXISTS (SELECT FROM unnest(polroles) AS role WHERE role = 0 OR pg_has_role(role, 'USAGE'))
    GROUP BY command
    HAVING NOT coalesce(bool_or(polpermissive AND pg_get_expr(polqual, polrelid) = 'true'), false)
        OR bool_or(NOT polpermissive AND pg_get_expr(polqual, polrelid) <> 'true')
)
"""
    is_current: str = """
SELECT FROM pg_attribute WHERE attrelid = to_regclass('%table%') AND attname IN ('purge_after', 'moved_to')
HAVING count(*) = 2 AND to_regclass('%owner_index%') IS NOT NULL AND to_regclass('%purge_index%') IS NOT NULL
"""


def statements(table: str) -> Statements:
    """Build the statements for `table`.

    Raises:
        ConfigError: the name is not a plain identifier.
    """
    name = quoted(table)
    parts = {
        "table": name,
        "owner_index": index_name(name, "owner"),
        "purge_index": index_name(name, "purge_after"),
        "may_write": _MAY_WRITE,
        "on_primary": _ON_PRIMARY,
        "session": _IS_SESSION,
        "ttl": _TTL,
        **{f"after_{number}": f"now() + ${number}::float8 * interval '1 s'" for number in (2, 3, 8)},
    }
    templates = structs.astuple(Statements())
    return Statements(*(re.sub("%([a-z_0-9]+)%", lambda found: parts[found[1]], sql) for sql in templates))
