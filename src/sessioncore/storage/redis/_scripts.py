"""The Lua scripts: each changes a record and its owner's index in one atomic step.

The bodies are shared by both kinds of server. On one server `enlist` and `delist`
keep the index right inside the script; on a cluster an index lies in a slot of
its own, so there they do nothing and the caller makes a second trip with what the
script returns. Every body writes the record before anything else: Redis refuses
for want of memory or as a read-only replica only at a script's first write, so a
refused script has changed nothing.
"""

from hashlib import sha1

from msgspec import Struct

from sessioncore.storage.redis._format import INDEX_SUFFIX

__all__ = ["ENLIST", "ON_A_CLUSTER", "ON_ONE_SERVER", "OWNED", "PRUNE", "VERIFY", "Script", "Scripts"]

_HEAD = """
local function owner_in(head, key)
  local sized = struct.unpack('>I4', head, 11)
  if sized == 0 then return '' end
  return 'o' .. redis.call('GETRANGE', key, 14, 12 + sized)
end
local function head_of(key)
  local head = redis.call('GETRANGE', key, 0, 13)
  if string.sub(head, 1, 2) ~= 'S\\001' or #head < 14 then return nil end
  return head
end
"""

# The score is the expiry plus some seconds of grace: entries are dropped by the clock of the index,
# records by the clock of theirs, and on a cluster these are two machines.
_ENLIST = """
local function enlist_in(index, member, ttl)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local stays = ttl + 10000
  redis.call('ZADD', index, string.format('%.0f', now + stays), member)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', string.format('%.0f', now))
  if redis.call('PTTL', index) < stays then
    redis.call('PEXPIRE', index, string.format('%.0f', stays))
  end
end
"""

_ONE_SERVER = f"""
local SUFFIX = '{INDEX_SUFFIX.decode()}'
local function enlist(owner, member, ttl)
  if owner ~= '' then enlist_in(string.sub(owner, 2) .. SUFFIX, member, tonumber(ttl)) end
end
local function delist(owner, member)
  if owner ~= '' then redis.call('ZREM', string.sub(owner, 2) .. SUFFIX, member) end
end
"""

_CLUSTER = """
local function enlist(owner, member, ttl) end
local function delist(owner, member) end
"""

# KEYS record; ARGV value, ttl. Reply: 1 stored, 0 taken.
_CREATE = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
enlist(owner_in(string.sub(ARGV[1], 1, 14), KEYS[1]), KEYS[1], ARGV[2])
return 1
"""

# KEYS record; ARGV value, ttl, version. Reply: nil gone, {0, value, pttl} conflict, {1, old owner} done.
_REPLACE = """
local head = redis.call('GETRANGE', KEYS[1], 0, 13)
if head == '' then return false end
if string.sub(head, 3, 10) ~= ARGV[3] or string.sub(head, 1, 2) ~= 'S\\001' then
  return {0, redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}
end
local was = owner_in(head, KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local is = owner_in(string.sub(ARGV[1], 1, 14), KEYS[1])
if was ~= is then delist(was, KEYS[1]) end
enlist(is, KEYS[1], ARGV[2])
return {1, was}
"""

# KEYS old, new; ARGV value, ttl, version. Reply: as above, or {2} where the new key is taken.
_MOVE = """
local head = redis.call('GETRANGE', KEYS[1], 0, 13)
if head == '' then return false end
if string.sub(head, 3, 10) ~= ARGV[3] or string.sub(head, 1, 2) ~= 'S\\001' then
  return {0, redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}
end
local was = owner_in(head, KEYS[1])
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {2} end
redis.call('UNLINK', KEYS[1])
delist(was, KEYS[1])
enlist(owner_in(string.sub(ARGV[1], 1, 14), KEYS[2]), KEYS[2], ARGV[2])
return {1, was}
"""

# KEYS old; ARGV version. Reply: as for replace. The second half of a move between two slots.
_RETIRE = """
local head = redis.call('GETRANGE', KEYS[1], 0, 13)
if head == '' then return false end
if string.sub(head, 3, 10) ~= ARGV[1] or string.sub(head, 1, 2) ~= 'S\\001' then
  return {0, redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}
end
local was = owner_in(head, KEYS[1])
redis.call('UNLINK', KEYS[1])
delist(was, KEYS[1])
return {1, was}
"""

# KEYS record; ARGV ttl. Reply: nil gone, else the owner, '' for none.
_TOUCH = """
local head = head_of(KEYS[1])
if not head then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local owner = owner_in(head, KEYS[1])
enlist(owner, KEYS[1], ARGV[1])
return owner
"""

# KEYS record; ARGV ttl. Reply: nil gone, else the value.
_RENEW = """
local value = redis.call('GET', KEYS[1])
if not value then return false end
local head = head_of(KEYS[1])
if not head then return value end
if redis.call('PTTL', KEYS[1]) < 0 then return '' end -- somebody took its end away: not to be trusted, nor mended
redis.call('PEXPIRE', KEYS[1], ARGV[1])
enlist(owner_in(head, KEYS[1]), KEYS[1], ARGV[1])
return value
"""

# KEYS records. Reply: the owners of those that were live, '' for none.
_DELETE = """
local owners = {}
for _, key in ipairs(KEYS) do
  local head = head_of(key)
  if head then
    local owner = owner_in(head, key)
    redis.call('UNLINK', key)
    delist(owner, key)
    owners[#owners + 1] = owner
  end
end
return owners
"""

_KEEP = """
local function keep_live(index, owner, members)
  local live = {}
  for _, key in ipairs(members) do
    local value = redis.pcall('GETRANGE', key, 0, 13 + #owner)
    if type(value) == 'table' then -- an error: another type at this key is none of ours
      if string.sub(value.err, 1, 9) ~= 'WRONGTYPE' then error(value.err) end
      value = ''
    end
    if string.sub(value, 1, 2) == 'S\\001' and #value == 14 + #owner
        and struct.unpack('>I4', value, 11) == #owner + 1 and string.sub(value, 15) == owner then
      live[#live + 1] = key
    else
      redis.call('ZREM', index, key)
    end
  end
  return live
end
"""

# KEYS index; ARGV owner, most. Reply: {1, live} or, where there are more than `most`, {0, unverified}.
_OWNED = """
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
if #members > tonumber(ARGV[2]) then return {0, members} end
return {1, keep_live(KEYS[1], ARGV[1], members)}
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
for _, member in ipairs(dead) do redis.call('ZREM', KEYS[1], member) end
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
    """Return the record scripts over one way of keeping the index."""
    library = _HEAD + _ENLIST + index
    return Scripts(
        create=_script(library, _CREATE),
        replace=_script(library, _REPLACE),
        move=_script(library, _MOVE),
        retire=_script(library, _RETIRE),
        touch=_script(library, _TOUCH),
        renew=_script(library, _RENEW),
        delete=_script(library, _DELETE),
    )


ON_ONE_SERVER = _scripts_for(_ONE_SERVER)
ON_A_CLUSTER = _scripts_for(_CLUSTER)
ENLIST = _script(_ENLIST, "enlist_in(KEYS[1], ARGV[1], tonumber(ARGV[2]))\nreturn 1\n")
OWNED = _script(_KEEP, _OWNED)
VERIFY = _script(_KEEP, _VERIFY)
PRUNE = _script(_PRUNE)
