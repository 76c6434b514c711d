-- The index of waiting jobs: ../index.rs in Redis' words. KEYS[1] is the hash of all jobs; every other key begins as that
-- one does, with the same hash tag, so all of them are in one slot of a cluster.
--   <p>jobs          hash: number -> place ("lane|since|cell")        <p>line:<lane>:<cell>  sorted set: number by since
--   <p>turns:<lane>  sorted set: active cells by turn                 <p>heads:<lane>        sorted set: active cells by since
--   <p>where         hash: "lane|cell" -> the hold that it is parked behind
--   <p>owners        sorted set: owners by their next turn            <p>turn                the turn that was served last
--   <p>holds         sorted set: holds by their end                   <p>parked:<hold>       set of "lane|cell"
--   <p>thawing       set of ended holds with lines behind them
--   <p>taken         sorted set: numbers by deadline                  <p>kept                hash: number -> place
--   <p>wake          list of tokens for workers that wait
--   <p>marker        there while the index is whole                      <p>filling             who is at filling it
-- Parts of a cell are joined by U+001F: queue, kind, owner, key; the last one may be empty.
local p = string.sub(KEYS[1], 1, -5)
local LANE_MS = 600000
local SEP = '\31'

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function parts(cell)
  local found = {}
  for part in string.gmatch(cell .. SEP, '(.-)' .. SEP) do found[#found + 1] = part end
  return found
end

local function split(place)
  local lane, since, cell = string.match(place, '^(%d+)|(-?%d+)|(.*)$')
  return lane, tonumber(since), cell
end

-- The turn that the next job of a cell's owner has.
local function turn_of(cell)
  local last = tonumber(redis.call('GET', p .. 'turn') or '0')
  local own = tonumber(redis.call('ZSCORE', p .. 'owners', parts(cell)[3]) or '0')
  return math.max(last, own)
end

local function head_of(lane, cell)
  return redis.call('ZRANGE', p .. 'line:' .. lane .. ':' .. cell, 0, 0, 'WITHSCORES')[2]
end

-- Brings a line's place among the others up to date with its jobs.
local function refresh(lane, cell)
  local head = head_of(lane, cell)
  local at = lane .. '|' .. cell
  local hold = redis.call('HGET', p .. 'where', at)
  if not head then
    redis.call('ZREM', p .. 'turns:' .. lane, cell)
    redis.call('ZREM', p .. 'heads:' .. lane, cell)
    if hold then
      redis.call('HDEL', p .. 'where', at)
      redis.call('SREM', p .. 'parked:' .. hold, at)
    end
  elseif not hold then
    redis.call('ZADD', p .. 'turns:' .. lane, 'NX', turn_of(cell), cell)
    redis.call('ZADD', p .. 'heads:' .. lane, head, cell)
  end
end

local function remove(seq, place)
  local lane, _, cell = split(place)
  redis.call('HDEL', p .. 'jobs', seq)
  redis.call('ZREM', p .. 'line:' .. lane .. ':' .. cell, seq)
  refresh(lane, cell)
end

-- Says how many of these (number, place, number, place, ...) were not there already. Lines are brought up to date once for all
-- of their jobs.
local function insert(entries)
  local new, lines = 0, {}
  for i = 1, #entries, 2 do
    local seq, place = entries[i], entries[i + 1]
    local old = redis.call('HGET', p .. 'jobs', seq)
    if old ~= place then
      if old then remove(seq, old) end
      local lane, since, cell = split(place)
      redis.call('HSET', p .. 'jobs', seq, place)
      redis.call('ZADD', p .. 'line:' .. lane .. ':' .. cell, since, seq)
      lines[lane .. '|' .. cell] = { lane, cell }
      new = new + 1
    end
  end
  for _, line in pairs(lines) do refresh(line[1], line[2]) end
  return new
end

-- Calls with so many of the numbers at once: Lua's stack bounds what one call may be given.
local function in_chunks(seqs, call)
  for i = 1, #seqs, 1000 do call(unpack(seqs, i, math.min(i + 999, #seqs))) end
end

-- They are on their way to no worker any more.
local function forget(seqs)
  in_chunks(seqs, function(...)
    redis.call('ZREM', p .. 'taken', ...)
    redis.call('HDEL', p .. 'kept', ...)
  end)
end

-- Tokens for workers that wait: one for each new job, and never so many that nobody will take them.
local function wake(n)
  local there = redis.call('LLEN', p .. 'wake')
  for _ = there + 1, math.min(64, there + n) do redis.call('RPUSH', p .. 'wake', '1') end
end

local function release(hold)
  local held = redis.call('ZREM', p .. 'holds', hold)
  if redis.call('EXISTS', p .. 'parked:' .. hold) == 1 then redis.call('SADD', p .. 'thawing', hold) end
  return held
end
