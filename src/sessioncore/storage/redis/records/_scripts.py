"""The Lua scripts that the storage runs. `_lua` has the functions that they share, and the rules for all."""

from hashlib import sha1

from msgspec import Struct

from sessioncore.storage.redis.records import _lua as lua

__all__ = [
    "CREATE", "DELETE", "END", "ENLIST", "ON_A_CLUSTER", "ON_ONE_SERVER", "OWNED", "PRUNE", "RETIRE", "SHORTEN",
    "VERIFY", "Script",
]  # fmt: skip


class Script(Struct, frozen=True):
    """One script, by its text and by the hash under which Redis remembers it."""

    text: bytes  # for EVAL
    sha: bytes  # for EVALSHA


def _script(*parts: str) -> Script:
    text = "".join((lua.TRY_CALL, *parts)).encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


# It does no harm if the entry stays in a former owner's index: the record names another owner, or is gone.
# KEYS record, index; ARGV value, ttl, version. Reply: nil gone, {0, value, pttl} conflict, {1, old owner} done.
_REPLACE = """
local refused = store(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
if refused then return refused end
local former = index_of(was)
if former and former ~= KEYS[2] then redis.pcall('ZREM', former, KEYS[1]) end
return {1, was}
"""

# KEYS old, new, index; ARGV value, ttl, tombstone, its ttl, version. Reply: as above, or {2}: the new key is taken.
# A tombstone whose ttl is 0 is not written. If the old record cannot be ended, a SET with an expiry in the past removes
# the new one: SET has just worked.
_MOVE = """
if redis.call('PTTL', KEYS[2]) ~= -2 then return {2} end
local refused = store(KEYS[2], KEYS[3], ARGV[1], ARGV[2])
if refused then return refused end
local end_old = ARGV[4] == '0' and {'UNLINK', KEYS[1]} or {'SET', KEYS[1], ARGV[3], 'PX', ARGV[4]}
local reply = try_call(unpack(end_old))
if type(reply) == 'table' and reply.err then
  redis.pcall('SET', KEYS[2], '', 'PXAT', 1)
  undo_entry(KEYS[3], KEYS[2])
  return reply
end
local former = index_of(was)
if former then redis.pcall('ZREM', former, KEYS[1]) end
return {1, was}
"""

# KEYS record; ARGV ttl. Reply: nil gone, else the owner, '' for none, and the milliseconds that were left.
_TOUCH = """
local start = start_of(KEYS[1])
if not is_ours(start) then return false end
local had = redis.call('PTTL', KEYS[1])
if had < 0 then return false end
local owner = owner_in(start, KEYS[1])
return prolong(owner, had) or {owner, had}
"""

# KEYS record; ARGV ttl. Reply: nil gone, else the value, '' if it has no expiry, and the milliseconds that were left.
_RENEW = """
local value = redis.call('GET', KEYS[1])
if not value then return false end
local had = redis.call('PTTL', KEYS[1])
if had < 0 then return {'', 0} end
if not is_ours(value) then return {value, had} end
return prolong(owner_in(value, KEYS[1]), had) or {value, had}
"""


class _RecordScripts(Struct, frozen=True):
    """The scripts that change a record and, if it is on the same server, its owner's index."""

    replace: Script
    move: Script
    touch: Script
    renew: Script


def _record_scripts(index_of: str) -> _RecordScripts:
    shared = lua.HEAD + lua.INDEX + index_of
    return _RecordScripts(
        replace=_script(shared, lua.STORE, lua.AT_VERSION, _REPLACE),
        move=_script(shared, lua.STORE, lua.AT_VERSION, _MOVE),
        touch=_script(shared, lua.PROLONG, _TOUCH),
        renew=_script(shared, lua.PROLONG, _RENEW),
    )


ON_ONE_SERVER = _record_scripts(lua.INDEX_HERE)
ON_A_CLUSTER = _record_scripts(lua.INDEX_ELSEWHERE)

# KEYS record, index; ARGV value, ttl. Reply: 1 stored, 0 taken.
CREATE = _script(
    lua.INDEX,
    lua.STORE,
    """
if redis.call('PTTL', KEYS[1]) ~= -2 then return 0 end
return store(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) or 1
""",
)

# All records are read before the first is ended. An index entry that stays does no harm: it leads to no record.
# KEYS records. Reply: the owners of those that were live, '' for none.
DELETE = _script(
    lua.HEAD,
    lua.INDEX_HERE,
    """
local gone, owners, entries, seen = {}, {}, {}, {}
for _, key in ipairs(KEYS) do
  local start = start_of(key)
  while is_tombstone(start) and not seen[key] do
    seen[key], gone[#gone + 1] = true, key
    if #start == 256 then start = redis.call('GET', key) end
    key = string.sub(start, 3)
    start = start_of(key)
  end
  if is_ours(start) and not seen[key] then
    local owner = owner_in(start, key)
    seen[key], gone[#gone + 1], owners[#owners + 1] = true, key, owner
    local index = index_of(owner)
    if index then
      local members = entries[index] or {}
      members[#members + 1], entries[index] = key, members
    end
  end
end
for first = 1, #gone, 1000 do redis.call('UNLINK', unpack(gone, first, math.min(first + 999, #gone))) end
for index, members in pairs(entries) do redis.pcall('ZREM', index, unpack(members)) end
return owners
""",
)

# KEYS key. Reply: nil nothing, {1, owner} ended, {2, tombstone} not ended: the record is elsewhere.
END = _script(
    lua.HEAD,
    """
local start = start_of(KEYS[1])
if is_tombstone(start) then return {2, redis.call('GET', KEYS[1])} end
if not is_ours(start) and (string.sub(start, 1, 2) ~= 'A\\001' or #start < 14) then return false end
local owner = owner_in(start, KEYS[1])
redis.call('UNLINK', KEYS[1])
return {1, owner}
""",
)

# KEYS old; ARGV tombstone, its ttl, version. Reply: as for replace. The deciding step of a move between two slots.
RETIRE = _script(
    lua.HEAD,
    lua.AT_VERSION,
    """
local reply = try_call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return reply.err and reply or {1, was}
""",
)

# KEYS old; ARGV tombstone, its ttl.
SHORTEN = _script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
""")

# KEYS index; ARGV member, ttl. Reply: 1.
ENLIST = _script(lua.INDEX, "read_index(KEYS[1], ARGV[2])\nreturn add_entry(KEYS[1], ARGV[1], -1) or 1\n")

# KEYS index; ARGV owner, most. Reply: {1, live} or, where there are more than `most`, {0, unverified}.
OWNED = _script(
    lua.HEAD + lua.KEEP_LIVE,
    """
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
if #members > tonumber(ARGV[2]) then return {0, members} end
return {1, keep_live(KEYS[1], ARGV[1], members)}
""",
)

# KEYS index, members; ARGV owner. Reply: the live ones.
VERIFY = _script(
    lua.HEAD + lua.KEEP_LIVE,
    """
local members = {}
for i = 2, #KEYS do members[i - 1] = KEYS[i] end
return keep_live(KEYS[1], ARGV[1], members)
""",
)

# KEYS index; ARGV most. Reply: how many entries were dropped.
PRUNE = _script("""
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #dead > 0 then redis.call('ZREM', KEYS[1], unpack(dead)) end
return #dead
""")
