"""What the Lua scripts share, and how each changes a record and its owner's index in one atomic step, or nothing.

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
    "AT_VERSION", "HEAD", "INDEX", "INDEX_ELSEWHERE", "INDEX_HERE", "KEEP_LIVE", "PROLONG", "STORE", "TRY_CALL",
]  # fmt: skip

# Only newer servers say which command was refused, so the error says it.
TRY_CALL = """
local function try_call(name, ...)
  local reply = redis.pcall(name, ...)
  if type(reply) == 'table' and reply.err then reply.err = reply.err .. ' [' .. name .. ']' end
  return reply
end
"""

# The head and the owner nearly always fit into 256 bytes, so one GETRANGE is enough. A value of another type is not
# ours, and neither is text that does not begin as ours does; the second GETRANGE raises any other error.
HEAD = """
local function start_of(key)
  local start = redis.pcall('GETRANGE', key, 0, 255)
  if type(start) ~= 'table' then return start end
  return string.sub(start.err, 1, 9) == 'WRONGTYPE' and '' or redis.call('GETRANGE', key, 0, 255)
end
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
# entry gets back: nil means what the record has now, and -1 that the score stays.
INDEX = """
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

# Writes a record whose entry in the index is there before it; returns the error if one of the two was refused.
STORE = """
local function store(record, index, value, ttl)
  read_index(index, ttl)
  local refused = add_entry(index, record)
  if refused then return refused end
  local reply = try_call('SET', record, value, 'PX', ttl)
  if not reply.err then return nil end
  undo_entry(index, record)
  return reply
end
"""

INDEX_HERE = f"""
local function index_of(owner) return owner ~= '' and string.sub(owner, 2) .. '{INDEX_SUFFIX.decode()}' or nil end
"""

INDEX_ELSEWHERE = "local function index_of(owner) return nil end\n"

# This storage wrote no value without an expiry and none of another type. Both are reported with -1 as their PTTL.
AT_VERSION = """
local ends = redis.call('PTTL', KEYS[1])
if ends == -2 then return false end
local start = start_of(KEYS[1])
if ends == -1 or start == '' then return {0, '', -1} end
if string.sub(start, 3, 10) ~= ARGV[#ARGV] or not is_ours(start) then
  return {0, redis.call('GET', KEYS[1]), ends}
end
local was = owner_in(start, KEYS[1])
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

# Dead entries are dropped if the ACL allows it. The live ones are returned in any case: the caller may end them.
KEEP_LIVE = """
local function keep_live(index, owner, members)
  local live, dead = {}, {}
  for _, key in ipairs(members) do
    local start = start_of(key)
    local found = is_ours(start) and owner_in(start, key) == 'o' .. owner and live or dead
    found[#found + 1] = key
  end
  if #dead > 0 then redis.pcall('ZREM', index, unpack(dead)) end
  return live
end
"""
