"""The scripts that run inside of Redis, each as a whole, and the keys that they work on.

The idea needed to read it: **a bucket is what one script can see.** Streams are dealt to buckets
by their names, and everything about a stream is in its bucket, under one hash tag and so on one
node of a Cluster: its entries, its head, and its rows in the lists of the bucket. A script is
given the bucket's name as its only key and makes the other keys from it:

| key | what it is |
|---|---|
| `{n}:s:<stream>` | hash: first, last, born, write (the last one's id), expires (if it ended) |
| `{n}:e:<stream>` | Redis stream of chunks; the id of a chunk is the `seq` of its last entry |
| `{n}:names` | sorted set of all names, for listing by prefix |
| `{n}:live` | likewise, of those that have not ended |
| `{n}:ended` | sorted set of the others, by when they expire |
| `{n}:sizes` | hash: the bytes that each stream takes |
| `{n}:counted` | the sum of these, while the count is new |
| `{n}:r:<name>` | when a rate is whole again, in seconds since 1970 |
| `{n}:format` | in the first bucket: what these keys mean, and how many buckets there are |

Every change of a stream is published to the channel `{n}:n:<stream>`. A script that adds to memory
does so first, so that a full Redis refuses all of it. One that only frees memory always works.
"""

from dataclasses import dataclass
from hashlib import sha1
from zlib import crc32

from headway.journal.chunk_cipher import SAMPLE_BYTES
from headway.journal.stream_buffer import STREAM_OVERHEAD
from headway.stream_names import KEY_STREAMS

FORMAT = 1
"""The version of the keys' contents; a change of them adds one."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the digest by which Redis knows it."""

    text: str
    digest: str


def _make_script(body: str) -> Script:
    text = _COMMON + body
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def bucket_of(stream: bytes, buckets: int) -> int:
    """Return the number of the bucket that a stream is in."""
    return crc32(stream) % buckets


_COMMON = """
local bucket = KEYS[1]
local names, live, ended = bucket .. ':names', bucket .. ':live', bucket .. ':ended'
local sizes = bucket .. ':sizes'
local function forget(name)
  redis.call('UNLINK', bucket .. ':s:' .. name, bucket .. ':e:' .. name)
  redis.call('ZREM', names, name)
  redis.call('ZREM', live, name)
  redis.call('ZREM', ended, name)
  redis.call('HDEL', sizes, name)
  redis.call('DEL', bucket .. ':counted')
  redis.call('PUBLISH', bucket .. ':n:' .. name, '')
end
local function prolong(key, milliseconds)  -- only that: another process may keep it longer
  if redis.call('PTTL', key) < tonumber(milliseconds) then
    redis.call('PEXPIRE', key, milliseconds)
  end
end
local function keep(milliseconds)
  for _, key in ipairs({names, live, ended, sizes}) do prolong(key, milliseconds) end
end
"""

OPEN = _make_script("""
-- mine, ttl of the bucket -> the format found
local key = bucket .. ':format'
local found = redis.call('GET', key)
if not found then
  redis.pcall('SET', key, ARGV[1], 'PX', ARGV[2])  -- a full Redis is no reason to read nothing
  return ARGV[1]
end
prolong(key, ARGV[2])
return found
""")

WRITE = _make_script(f"""
-- name, after, last, id of the write, expires or '', ttl of the stream, ttl of the bucket,
-- most entries, most bytes; then for each chunk its last seq and its data
-- -> how many entries were trimmed, below zero for their bytes; or why nothing was written:
-- last seq, whether it has ended, id of its last write
local name, after, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local stream, entries = bucket .. ':s:' .. name, bucket .. ':e:' .. name
local head = redis.call('HMGET', stream, 'first', 'last', 'expires', 'write')
local first, had = tonumber(head[1]) or 1, tonumber(head[2]) or 0
if had ~= after or head[3] then
  return {{had, head[3] and 1 or 0, head[4] or ''}}
end
local is_new, ends = had == 0, ARGV[5] ~= ''
if is_new then redis.call('UNLINK', entries) end
local added = is_new and {STREAM_OVERHEAD} or 0
for i = 10, #ARGV, 2 do
  redis.call('XADD', entries, ARGV[i] .. '-0', 'd', ARGV[i + 1])
  added = added + #ARGV[i + 1]
end
if is_new then
  redis.call('ZREM', ended, name)  -- of one that expired
  redis.call('HDEL', sizes, name)
  local now = redis.call('TIME')
  redis.call('HSET', stream, 'born', now[1] .. string.format('%06d', now[2]))
  redis.call('ZADD', names, 0, name)
  redis.call('ZADD', live, 0, name)
end
local bytes = redis.call('HINCRBY', sizes, name, added)
local most_entries, most_bytes = tonumber(ARGV[8]), tonumber(ARGV[9]) + {STREAM_OVERHEAD}
local is_long = false
if last - first >= most_entries or bytes > most_bytes then
  -- by so much that the next writes need not do it again
  is_long = last - first >= most_entries
  most_entries, most_bytes = most_entries * 7 / 8, most_bytes * 7 / 8
else
  most_entries, most_bytes = math.huge, math.huge
end
local oldest, from, cut = first, '-', 0
while last - first >= most_entries or bytes - cut > most_bytes do
  local chunk = redis.call('XRANGE', entries, from, '+', 'COUNT', 1)[1]
  local upto = tonumber(string.match(chunk[1], '%d+'))
  if upto >= last then break end
  first, cut, from = upto + 1, cut + #chunk[2][2], '(' .. chunk[1]
end
if cut > 0 then
  redis.call('XTRIM', entries, 'MINID', string.format('%d-0', first))
  redis.call('HINCRBY', sizes, name, -cut)
end
redis.call('HSET', stream, 'first', string.format('%d', first), 'last', ARGV[3], 'write', ARGV[4])
if ends then
  redis.call('HSET', stream, 'expires', ARGV[5])
  redis.call('ZREM', live, name)
  redis.call('ZADD', ended, ARGV[5], name)
end
for _, key in ipairs({{stream, entries}}) do
  if ends then redis.call('PEXPIRE', key, ARGV[6]) else prolong(key, ARGV[6]) end
end
if is_new or ends or bytes == added then keep(ARGV[7]) end
redis.call('PUBLISH', bucket .. ':n:' .. name, '')
return is_long and first - oldest or oldest - first
""")

READ = _make_script("""
-- name, after, limit -> first, last, whether it has ended, the chunks that hold the entries wanted
local name, after, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local head = redis.call('HMGET', bucket .. ':s:' .. name, 'first', 'last', 'expires')
if not head[2] then return false end
local first, last = tonumber(head[1]), tonumber(head[2])
local found = {first, last, head[3] and 1 or 0}
local upto = math.min(last, after + limit)
local from, count = string.format('%d-0', after + 1), 4
while limit > 0 and after + 1 >= first and after < upto do
  local chunks = redis.call('XRANGE', bucket .. ':e:' .. name, from, '+', 'COUNT', count)
  if #chunks == 0 then break end
  count = math.min(2 * count, 64)
  for _, chunk in ipairs(chunks) do
    if after < upto then
      found[#found + 1] = chunk[2][2]
      after, from = tonumber(string.match(chunk[1], '%d+')), '(' .. chunk[1]
    end
  end
end
return found
""")

CHUNKS = _make_script("""
-- name, after, last -> the last seq of each chunk behind it and its data, in turns; other things
-- have no data
local name, found = ARGV[1], {}
local from, upto = string.format('%d-0', tonumber(ARGV[2]) + 1), string.format('%d-0', ARGV[3])
for _, chunk in ipairs(redis.call('XRANGE', bucket .. ':e:' .. name, from, upto, 'COUNT', 64)) do
  found[#found + 1] = string.match(chunk[1], '%d+')
  found[#found + 1] = #chunk[2] == 2 and chunk[2][1] == 'd' and chunk[2][2] or ''
end
return found
""")

SAMPLE = _make_script(f"""
-- -> the beginning of the newest chunk of any stream; '' where there is none
local name = redis.call('ZRANDMEMBER', names)
local chunk = name and redis.call('XREVRANGE', bucket .. ':e:' .. name, '+', '-', 'COUNT', 1)[1]
return chunk and string.sub(chunk[2][2], 1, {SAMPLE_BYTES}) or ''
""")

LIST = _make_script("""
-- which list, least name, greatest, most -> the last name looked at if there may be more, else '';
-- then names and when they were born, in turns
local key, most = bucket .. ':' .. ARGV[1], tonumber(ARGV[4])
local some = redis.call('ZRANGEBYLEX', key, ARGV[2], ARGV[3], 'LIMIT', 0, most)
local found = {#some == most and some[most] or ''}
for _, name in ipairs(some) do
  local born = redis.call('HGET', bucket .. ':s:' .. name, 'born')
  if born then
    found[#found + 1] = name
    found[#found + 1] = born
  else
    forget(name)
  end
end
return found
""")

TAKE = _make_script("""
-- name, seconds of one, seconds of all -> seconds until one more may come, as a text; as
-- `headway.rate_limits.Rate`
local key, interval, seconds = bucket .. ':r:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local whole = math.max(tonumber(redis.call('GET', key)) or 0, now)
local wait = whole - now - (seconds - interval)
if wait > 0.000001 then return string.format('%.6f', wait) end
whole = whole + interval
local left = string.format('%d', math.max(1, math.ceil((whole - now) * 1000)))
redis.call('SET', key, string.format('%.6f', whole), 'PX', left)
return '0'
""")

NUMBER = _make_script("""
-- which list, least name, greatest -> how many, with those that Redis let go of until a sweep
return redis.call('ZLEXCOUNT', bucket .. ':' .. ARGV[1], ARGV[2], ARGV[3])
""")

FORGET = _make_script("""
-- names and when each expires, in turns; '' stands for any: one begun anew in the meantime is kept
for i = 1, #ARGV, 2 do
  local head = redis.call('HMGET', bucket .. ':s:' .. ARGV[i], 'expires', 'last')
  if ARGV[i + 1] == '' or head[1] == ARGV[i + 1] or not head[2] then forget(ARGV[i]) end
end
""")

SWEEP = _make_script("""
-- now, ttl of the bucket, most to forget -> how many had expired
local gone = redis.call('ZRANGEBYSCORE', ended, '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, name in ipairs(gone) do forget(name) end
for _, name in ipairs(redis.call('ZRANDMEMBER', live, 20)) do
  if redis.call('EXISTS', bucket .. ':s:' .. name) == 0 then forget(name) end
end
keep(ARGV[2])
prolong(bucket .. ':format', ARGV[2])
return #gone
""")

COUNT = _make_script("""
-- how old a count may be in seconds; 0: count now -> bytes of all streams
local key, total = bucket .. ':counted', 0
local counted = ARGV[1] ~= '0' and redis.call('GET', key)
if counted then return tonumber(counted) end
for _, size in ipairs(redis.call('HVALS', sizes)) do total = total + size end
if ARGV[1] == '0' then
  redis.call('DEL', key)
else
  redis.pcall('SET', key, string.format('%d', total), 'EX', ARGV[1])
end
return total
""")

_OWNER = """
local function owner_of(name)
  return string.match(name, '^[^/]*/([^/.]*)') or ''
end
"""
"""As `eviction.owner_of`."""

HELD = _make_script(
    _OWNER
    + """
-- -> the owners and how many bytes each holds, in turns
local held, found, all = {}, {}, redis.call('HGETALL', sizes)
for i = 1, #all, 2 do
  local owner = owner_of(all[i])
  held[owner] = (held[owner] or 0) + (tonumber(all[i + 1]) or 0)
end
for owner, size in pairs(held) do
  found[#found + 1] = owner
  found[#found + 1] = string.format('%d', size)
end
return found
"""
)

OLDEST = _make_script(
    _OWNER
    + f"""
-- how many, that expire from when to when, and then whose -> of those that expire first: name,
-- expires, born, bytes, in turns
local most, due, found = tonumber(ARGV[1]), {{}}, {{}}
for i = 4, #ARGV do due[ARGV[i]] = true end
-- by rank: to find the one at a score's offset, Redis goes through all before it
local from = redis.call('ZCARD', ended) - redis.call('ZCOUNT', ended, ARGV[2], '+inf')
local upto = redis.call('ZCOUNT', ended, '-inf', ARGV[3]) - 1
while from <= upto and #found < 4 * most do
  for _, name in ipairs(redis.call('ZRANGE', ended, from, math.min(upto, from + most - 1))) do
    from = from + 1
    if due[owner_of(name)] and string.sub(name, 1, {len(KEY_STREAMS)}) ~= '{KEY_STREAMS}' then
      local head = redis.call('HMGET', bucket .. ':s:' .. name, 'expires', 'born')
      if head[1] then
        local size = redis.call('HGET', sizes, name) or '0'
        for _, value in ipairs({{name, head[1], head[2], size}}) do found[#found + 1] = value end
      else
        forget(name)
        from, upto = from - 1, upto - 1
      end
    end
  end
end
return found
"""
)
