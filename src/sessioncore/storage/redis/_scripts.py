"""The Lua scripts: each changes a record and its owner's index in one atomic step, or nothing.

Everything that can fail beforehand is checked before the first write: types, versions, the
clock, taken keys. A missing right shows only when its command runs, so every command after
the first write is called with `pcall`, and on an error the script takes back what it wrote.
It does so with commands that have just worked. The index is written before the record, so
that no step leaves a record that its owner cannot find. A touch allocates no memory for the
record, so there the record's new end comes first: a full server must still renew sessions.

A server that is full, read-only or without its replicas refuses a script's first write if
that write can allocate memory. ZADD and SET can, and they are the first writes.

Both kinds of server use the same bodies. On one server a script derives the index from the
stored record, under the same prefix but undeclared; on a cluster the index is in another
slot, so the script returns the owner and the caller updates the index.
"""

from hashlib import sha1

from msgspec import Struct

from sessioncore.storage.redis._format import INDEX_SUFFIX

__all__ = ["ENLIST", "ON_A_CLUSTER", "ON_ONE_SERVER", "OWNED", "PRUNE", "VERIFY", "Script", "Scripts"]

# Most heads and their owners fit into the first 256 bytes, so that one read is enough.
_HEAD = """
local function start_of(key) return redis.call('GETRANGE', key, 0, 255) end
local function is_ours(start) return string.sub(start, 1, 2) == 'S\\001' and #start >= 14 end
local function owner_in(start, key)
  local sized = struct.unpack('>I4', start, 11)
  if sized == 0 then return '' end
  if #start < 13 + sized then start = redis.call('GETRANGE', key, 0, 12 + sized) end
  return 'o' .. string.sub(start, 15, 13 + sized)
end
"""

# `look` reads, `enlist` writes and `withdraw` takes that back; they do nothing where there is no index. The score
# is the expiry plus some seconds of grace: entries are dropped by the clock of the index, records by the clock of
# theirs, and on a cluster these are two machines. `had`: the milliseconds that the record had, where they are not
# to be had any more when the entry is withdrawn; -1 leaves the score as it is.
_ENLIST = """
local now, stays, left, added, prolonged
local function whole(number) return string.format('%.0f', number) end
local function look(index, ttl)
  if not index then return end
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  stays, left = ttl + 10000, redis.call('PTTL', index)
end
local function withdraw(index, member, had)
  if not index then return end
  if added == 1 then
    redis.pcall('ZREM', index, member)
  else
    had = had or redis.pcall('PTTL', member)
    if type(had) == 'number' and had >= 0 then redis.pcall('ZADD', index, whole(now + had + 10000), member) end
  end
  if prolonged and left >= 0 then redis.pcall('PEXPIRE', index, left) end
end
local function enlist(index, member, had)
  if not index then return nil end
  added = redis.pcall('ZADD', index, whole(now + stays), member)
  if type(added) == 'table' then return added end
  local reply
  if left ~= -1 and left < stays then -- an index without an end keeps what others want of it
    reply = redis.pcall('PEXPIRE', index, whole(stays))
    prolonged = type(reply) ~= 'table'
  end
  if type(reply) ~= 'table' then reply = redis.pcall('ZREMRANGEBYSCORE', index, '-inf', whole(now)) end
  if type(reply) ~= 'table' then return nil end
  withdraw(index, member, had)
  return reply
end
"""

_ONE_SERVER = f"""
local function index_of(owner) return owner ~= '' and string.sub(owner, 2) .. '{INDEX_SUFFIX.decode()}' or nil end
"""

_CLUSTER = "local function index_of(owner) return nil end\n"

# KEYS record, index; ARGV value, ttl. Reply: 1 stored, 0 taken.
_CREATE = """
if redis.call('PTTL', KEYS[1]) ~= -2 then return 0 end
look(KEYS[2], ARGV[2])
local refused = enlist(KEYS[2], KEYS[1])
if refused then return refused end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if reply.err then withdraw(KEYS[2], KEYS[1]) return reply end
return 1
"""

# What has no end, and what is of another type, is none of ours: -1 says so of both.
_AS_IT_IS = """
local ends = redis.call('PTTL', KEYS[1])
if ends == -2 then return false end
if ends == -1 then return {0, '', -1} end
local start = redis.pcall('GETRANGE', KEYS[1], 0, 255)
if type(start) == 'table' then return string.sub(start.err, 1, 9) == 'WRONGTYPE' and {0, '', -1} or start end
if string.sub(start, 3, 10) ~= ARGV[#ARGV] or not is_ours(start) then
  return {0, redis.call('GET', KEYS[1]), ends}
end
local was = owner_in(start, KEYS[1])
"""

# A former owner's index may keep its entry: the record names another owner, or is gone.
# KEYS record, index; ARGV value, ttl, version. Reply: nil gone, {0, value, pttl} conflict, {1, old owner} done.
_REPLACE = """
look(KEYS[2], ARGV[2])
local refused = enlist(KEYS[2], KEYS[1])
if refused then return refused end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if reply.err then withdraw(KEYS[2], KEYS[1]) return reply end
local former = index_of(was)
if former and former ~= KEYS[2] then redis.pcall('ZREM', former, KEYS[1]) end
return {1, was}
"""

# A new record is taken back by a SET whose end has passed: SET has just worked, where UNLINK is what failed.
# KEYS old, new, index; ARGV value, ttl, version. Reply: as above, or {2} where the new key is taken.
_MOVE = """
if redis.call('PTTL', KEYS[2]) ~= -2 then return {2} end
look(KEYS[3], ARGV[2])
local refused = enlist(KEYS[3], KEYS[2])
if refused then return refused end
local reply = redis.pcall('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
if reply.err then withdraw(KEYS[3], KEYS[2]) return reply end
reply = redis.pcall('UNLINK', KEYS[1])
if type(reply) == 'table' then
  redis.pcall('SET', KEYS[2], '', 'PXAT', 1)
  withdraw(KEYS[3], KEYS[2])
  return reply
end
local former = index_of(was)
if former then redis.pcall('ZREM', former, KEYS[1]) end
return {1, was}
"""

# KEYS old; ARGV version. Reply: as for replace. The second half of a move between two slots.
_RETIRE = """
redis.call('UNLINK', KEYS[1])
return {1, was}
"""

# A record without an end was robbed of it: not to be trusted, nor mended.
_PROLONG = """
local function prolong(owner, had)
  local index = index_of(owner)
  look(index, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  local refused = enlist(index, KEYS[1], had)
  if refused then redis.pcall('PEXPIRE', KEYS[1], had) end
  return refused
end
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

# KEYS record; ARGV ttl. Reply: nil gone, else the value, '' if it has no end, and the milliseconds that were left.
_RENEW = """
local value = redis.call('GET', KEYS[1])
if not value then return false end
if not is_ours(value) then return {value, 0} end
local had = redis.call('PTTL', KEYS[1])
if had < 0 then return {'', 0} end
return prolong(owner_in(value, KEYS[1]), had) or {value, had}
"""

# All are looked at before the first ends. No index keeps a record alive: its entry may stay, and resolves to nothing.
# KEYS records. Reply: the owners of those that were live, '' for none.
_DELETE = """
local live, owners, entries = {}, {}, {}
for _, key in ipairs(KEYS) do
  local start = start_of(key)
  if is_ours(start) then
    local owner = owner_in(start, key)
    live[#live + 1], owners[#owners + 1] = key, owner
    local index = index_of(owner)
    if index then
      local members = entries[index] or {}
      members[#members + 1], entries[index] = key, members
    end
  end
end
if #live > 0 then redis.call('UNLINK', unpack(live)) end
for index, members in pairs(entries) do redis.pcall('ZREM', index, unpack(members)) end
return owners
"""

# What is dead is dropped if that is allowed: who asks for the living, perhaps to end them, gets them in any case.
_KEEP = """
local function keep_live(index, owner, members)
  local live, dead = {}, {}
  for _, key in ipairs(members) do
    local value = redis.pcall('GETRANGE', key, 0, 13 + #owner)
    if type(value) == 'table' then -- an error: another type at this key is none of ours
      if string.sub(value.err, 1, 9) ~= 'WRONGTYPE' then return value end
      value = ''
    end
    if string.sub(value, 1, 2) == 'S\\001' and #value == 14 + #owner
        and struct.unpack('>I4', value, 11) == #owner + 1 and string.sub(value, 15) == owner then
      live[#live + 1] = key
    else
      dead[#dead + 1] = key
    end
  end
  if #dead > 0 then redis.pcall('ZREM', index, unpack(dead)) end
  return live
end
"""

# KEYS index; ARGV owner, most. Reply: {1, live} or, where there are more than `most`, {0, unverified}.
_OWNED = """
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
if #members > tonumber(ARGV[2]) then return {0, members} end
local live = keep_live(KEYS[1], ARGV[1], members)
if live.err then return live end
return {1, live}
"""

# KEYS index, members; ARGV owner. Reply: the live ones.
_VERIFY = """
local members = {}
for i = 2, #KEYS do members[i - 1] = KEYS[i] end
return keep_live(KEYS[1], ARGV[1], members)
"""

# KEYS index; ARGV most. Reply: how many entries were dropped.
_PRUNE = """
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #dead > 0 then redis.call('ZREM', KEYS[1], unpack(dead)) end
return #dead
"""


class Script(Struct, frozen=True):
    """One script, by its text and by the hash under which Redis remembers it."""

    text: bytes
    sha: bytes

    def by_sha(self, keys: tuple[bytes, ...], args: tuple[bytes | int, ...]) -> tuple[bytes | int, ...]:
        """Return the command that runs what Redis remembers."""
        return (b"EVALSHA", self.sha, len(keys), *keys, *args)

    def by_text(self, keys: tuple[bytes, ...], args: tuple[bytes | int, ...]) -> tuple[bytes | int, ...]:
        """Return the command that brings the text along; Redis then remembers it."""
        return (b"EVAL", self.text, len(keys), *keys, *args)


class Scripts(Struct, frozen=True):
    """The scripts that touch a record, as one kind of server needs them."""

    create: Script
    replace: Script
    move: Script
    retire: Script
    touch: Script
    renew: Script
    delete: Script


def _script(*parts: str) -> Script:
    text = "".join(parts).encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


def _scripts_for(index: str) -> Scripts:
    """Return the record scripts over one way to the index of a stored record."""
    library = _HEAD + _ENLIST + index
    return Scripts(
        create=_script(_ENLIST, _CREATE),
        replace=_script(library, _AS_IT_IS, _REPLACE),
        move=_script(library, _AS_IT_IS, _MOVE),
        retire=_script(_HEAD, _AS_IT_IS, _RETIRE),
        touch=_script(library, _PROLONG, _TOUCH),
        renew=_script(library, _PROLONG, _RENEW),
        delete=_script(_HEAD, index, _DELETE),
    )


ON_ONE_SERVER = _scripts_for(_ONE_SERVER)
ON_A_CLUSTER = _scripts_for(_CLUSTER)
ENLIST = _script(_ENLIST, "look(KEYS[1], ARGV[2])\nreturn enlist(KEYS[1], ARGV[1], -1) or 1\n")
OWNED = _script(_KEEP, _OWNED)
VERIFY = _script(_KEEP, _VERIFY)
PRUNE = _script(_PRUNE)
