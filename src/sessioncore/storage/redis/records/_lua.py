"""The parts of the Lua scripts: each script changes a record and its owner's index in one atomic step, or nothing.

Everything that can fail beforehand is checked before the first write: types, versions, the
clock, taken keys. A missing right shows only when its command runs, so every command after
the first write is called with `pcall`, and on an error the script takes back what it wrote.
It does so with commands that have just worked. The index is written before the record, so
that no step leaves a record that its owner cannot find. A touch allocates no memory for the
record, so there the record's new end comes first: a full server must still renew sessions.
A server that is full, read-only or without its replicas refuses a script's first write if
that write can allocate memory. ZADD and SET can, and they are the first writes.

Both kinds of server use the same bodies. On one server a script derives the index from the record, under the
same prefix but undeclared; on a cluster it is in another slot, so the caller gets the owner and updates it.
"""

from sessioncore.storage.redis.records._format import INDEX_SUFFIX

__all__ = [
    "AS_IT_IS",
    "BURY",
    "CLUSTER",
    "CREATE",
    "DELETE",
    "END",
    "ENLIST",
    "HEAD",
    "KEEP",
    "MOVE",
    "ONE_SERVER",
    "OWNED",
    "PROLONG",
    "PRUNE",
    "RENEW",
    "REPLACE",
    "RETIRE",
    "SHORTEN",
    "TOUCH",
    "TRY_CALL",
    "VERIFY",
]

# Only newer servers say which command was refused, so the error says it.
TRY_CALL = """
local function try_call(name, ...)
  local reply = redis.pcall(name, ...)
  if type(reply) == 'table' and reply.err then reply.err = reply.err .. ' [' .. name .. ']' end
  return reply
end
"""

# The head and the owner nearly always fit into 256 bytes, so one GETRANGE is enough.
HEAD = """
local function start_of(key) return redis.call('GETRANGE', key, 0, 255) end
local function is_ours(start) return string.sub(start, 1, 2) == 'S\\001' and #start >= 14 end
local function is_tombstone(start) return string.find(start, '^M[\\001\\002]') ~= nil end
local function owner_in(start, key)
  local sized = struct.unpack('>I4', start, 11)
  if sized == 0 then return '' end
  if #start < 13 + sized then start = redis.call('GETRANGE', key, 0, 12 + sized) end
  return 'o' .. string.sub(start, 15, 13 + sized)
end
"""

# `read_index` reads, `add_entry` writes and `undo_entry` undoes that write; without an index they do nothing. An
# entry's score is the record's expiry plus ten seconds: an entry expires by the clock of the index's server, a record
# by that of its own, and on a cluster these are two machines. `had` is the time to live in milliseconds that an undone
# entry gets back: where it is nil, that of the record as it is now; where it is -1, the score stays.
ENLIST = """
local now, stays, left, added, prolonged
local function whole(number) return string.format('%.0f', number) end
local function read_index(index, ttl)
  if not index then return end
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  stays, left = ttl + 10000, redis.call('PTTL', index)
end
local function undo_entry(index, member, had)
  if not index then return end
  if added == 1 then
    redis.pcall('ZREM', index, member)
  else
    had = had or redis.pcall('PTTL', member)
    if type(had) == 'number' and had >= 0 then redis.pcall('ZADD', index, whole(now + had + 10000), member) end
  end
  if prolonged and left >= 0 then redis.pcall('PEXPIRE', index, left) end
end
local function add_entry(index, member, had)
  if not index then return nil end
  added = try_call('ZADD', index, whole(now + stays), member)
  if type(added) == 'table' then return added end
  local reply
  if left ~= -1 and left < stays then -- an index without an expiry stays without one
    reply = try_call('PEXPIRE', index, whole(stays))
    prolonged = type(reply) ~= 'table'
  end
  if type(reply) ~= 'table' then reply = try_call('ZREMRANGEBYSCORE', index, '-inf', whole(now)) end
  if type(reply) ~= 'table' then return nil end
  undo_entry(index, member, had)
  return reply
end
"""

ONE_SERVER = f"""
local function index_of(owner) return owner ~= '' and string.sub(owner, 2) .. '{INDEX_SUFFIX.decode()}' or nil end
"""

CLUSTER = "local function index_of(owner) return nil end\n"

# KEYS record, index; ARGV value, ttl. Reply: 1 stored, 0 taken.
CREATE = """
if redis.call('PTTL', KEYS[1]) ~= -2 then return 0 end
read_index(KEYS[2], ARGV[2])
local refused = add_entry(KEYS[2], KEYS[1])
if refused then return refused end
local reply = try_call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if reply.err then undo_entry(KEYS[2], KEYS[1]) return reply end
return 1
"""

# This storage wrote no value without an expiry and none of another type. Both are reported with -1 as their PTTL.
AS_IT_IS = """
local ends = redis.call('PTTL', KEYS[1])
if ends == -2 then return false end
if ends == -1 then return {0, '', -1} end
local start = try_call('GETRANGE', KEYS[1], 0, 255)
if type(start) == 'table' then return string.sub(start.err, 1, 9) == 'WRONGTYPE' and {0, '', -1} or start end
if string.sub(start, 3, 10) ~= ARGV[#ARGV] or not is_ours(start) then
  return {0, redis.call('GET', KEYS[1]), ends}
end
local was = owner_in(start, KEYS[1])
"""

# It does no harm if the entry stays in a former owner's index: the record names another owner, or is gone.
# KEYS record, index; ARGV value, ttl, version. Reply: nil gone, {0, value, pttl} conflict, {1, old owner} done.
REPLACE = """
read_index(KEYS[2], ARGV[2])
local refused = add_entry(KEYS[2], KEYS[1])
if refused then return refused end
local reply = try_call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if reply.err then undo_entry(KEYS[2], KEYS[1]) return reply end
local former = index_of(was)
if former and former ~= KEYS[2] then redis.pcall('ZREM', former, KEYS[1]) end
return {1, was}
"""

# A tombstone in the place of a record, or nothing where its ttl is 0.
BURY = """
local function bury(key, tombstone, ttl)
  if ttl == '0' then return try_call('UNLINK', key) end
  return try_call('SET', key, tombstone, 'PX', ttl)
end
"""

# KEYS old, new, index; ARGV value, ttl, tombstone, its ttl, version. Reply: as above, or {2}: the new key is taken.
# If the old record cannot be ended, a SET with an expiry in the past removes the new one: SET has just worked.
MOVE = """
if redis.call('PTTL', KEYS[2]) ~= -2 then return {2} end
read_index(KEYS[3], ARGV[2])
local refused = add_entry(KEYS[3], KEYS[2])
if refused then return refused end
local reply = try_call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
if reply.err then undo_entry(KEYS[3], KEYS[2]) return reply end
reply = bury(KEYS[1], ARGV[3], ARGV[4])
if type(reply) == 'table' and reply.err then
  redis.pcall('SET', KEYS[2], '', 'PXAT', 1)
  undo_entry(KEYS[3], KEYS[2])
  return reply
end
local former = index_of(was)
if former then redis.pcall('ZREM', former, KEYS[1]) end
return {1, was}
"""

# KEYS old; ARGV tombstone, its ttl, version. Reply: as for replace. The deciding step of a move between two slots.
RETIRE = """
local reply = bury(KEYS[1], ARGV[1], ARGV[2])
return type(reply) == 'table' and reply.err and reply or {1, was}
"""

# KEYS old; ARGV tombstone, its ttl.
SHORTEN = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""

# A record without an expiry is not prolonged: something else removed its expiry, so it is not ours any more.
PROLONG = """
local function prolong(owner, had)
  local index = index_of(owner)
  read_index(index, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  local refused = add_entry(index, KEYS[1], had)
  if refused then redis.pcall('PEXPIRE', KEYS[1], had) end
  return refused
end
"""

# KEYS record; ARGV ttl. Reply: nil gone, else the owner, '' for none, and the milliseconds that were left.
TOUCH = """
local start = start_of(KEYS[1])
if not is_ours(start) then return false end
local had = redis.call('PTTL', KEYS[1])
if had < 0 then return false end
local owner = owner_in(start, KEYS[1])
return prolong(owner, had) or {owner, had}
"""

# KEYS record; ARGV ttl. Reply: nil gone, else the value, '' if it has no expiry, and the milliseconds that were left.
RENEW = """
local value = redis.call('GET', KEYS[1])
if not value then return false end
local had = redis.call('PTTL', KEYS[1])
if had < 0 then return {'', 0} end
if not is_ours(value) then return {value, had} end
return prolong(owner_in(value, KEYS[1]), had) or {value, had}
"""

# All records are read before the first is ended. An index entry that stays does no harm: it leads to no record.
# KEYS records. Reply: the owners of those that were live, '' for none.
DELETE = """
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
"""

# KEYS key. Reply: nil nothing, {1, owner} ended, {2, tombstone} not ended: the record is elsewhere.
END = """
local start = start_of(KEYS[1])
if is_tombstone(start) then return {2, redis.call('GET', KEYS[1])} end
if not is_ours(start) and string.sub(start, 1, 2) ~= 'A\\001' then return false end
local owner = owner_in(start, KEYS[1])
redis.call('UNLINK', KEYS[1])
return {1, owner}
"""

# Dead entries are dropped if the ACL allows it. The live ones are returned in any case: the caller may end them.
KEEP = """
local function keep_live(index, owner, members)
  local live, dead = {}, {}
  for _, key in ipairs(members) do
    local value = try_call('GETRANGE', key, 0, 13 + #owner)
    if type(value) == 'table' then -- an error; we write no other type
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
OWNED = """
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
if #members > tonumber(ARGV[2]) then return {0, members} end
local live = keep_live(KEYS[1], ARGV[1], members)
if live.err then return live end
return {1, live}
"""

# KEYS index, members; ARGV owner. Reply: the live ones.
VERIFY = """
local members = {}
for i = 2, #KEYS do members[i - 1] = KEYS[i] end
return keep_live(KEYS[1], ARGV[1], members)
"""

# KEYS index; ARGV most. Reply: how many entries were dropped.
PRUNE = """
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #dead > 0 then redis.call('ZREM', KEYS[1], unpack(dead)) end
return #dead
"""
