-- The index of waiting jobs: ../index.rs in Redis' words. KEYS[1] is the hash of all jobs; every other key begins as that
-- one does, with the same hash tag, so all of them are in one slot of a cluster.
--   <p>jobs          hash: number -> place ("lane|since|cell")        <p>line:<lane>:<cell>  sorted set: number by since
--   <p>turns:<lane>  sorted set: active cells by turn                 <p>heads:<lane>        sorted set: active cells by since
--   <p>turns:<lane>:<hold> and <p>heads:<lane>:<hold>                 the same of the cells that are parked behind a hold
--   <p>behind        hash: "lane|cell" -> the hold that it is parked behind
--   <p>owners        sorted set: owners by their next turn            <p>turn                the turn that was served last
--   <p>holds         sorted set: what limits refused of late, by the end of that
--   <p>free          hash: of those some of whose places were given up since, how many; the others let nothing go
--   <p>thawing       set of ended holds with lines behind them
--   <p>taken         sorted set: numbers by deadline
--   <p>kept          hash: number -> "turn|paid>place": the turn that it went with, and how far that moved its owner's on
--   <p>wake          list of tokens for workers that wait
--   <p>marker        there while the index is whole                      <p>filling             who is at filling it
-- Parts of a cell are joined by U+001F: queue, kind, owner, key; the last one may be empty.
local p = string.sub(KEYS[1], 1, -5)
local LANE_MS = 600000
-- Since when those wait that go before all others.
local FRONT = 0
-- By how much a job moves its owner's turn on. Lines that come back from behind a hold together stand closer to each other.
local STEP = 1024
-- Owners whose turns are remembered, but for those that are ahead of all others.
local OWNERS_MAX = 10000
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

-- The next turn of a cell's owner, or false.
local function own_turn(cell) return redis.call('ZSCORE', p .. 'owners', parts(cell)[3]) end

-- The turn that a line begins with. Who had none to wait gains nothing by it, and owes nothing.
local function enter(cell)
  local last, own = redis.call('GET', p .. 'turn') or '0', own_turn(cell)
  if own then return math.max(tonumber(last), tonumber(own)) end
  if redis.call('ZCARD', p .. 'owners') < OWNERS_MAX then redis.call('ZADD', p .. 'owners', last, parts(cell)[3]) end
  return last
end

local function head_of(lane, cell)
  return redis.call('ZRANGE', p .. 'line:' .. lane .. ':' .. cell, 0, 0, 'WITHSCORES')[2]
end

-- Where the lines of a lane stand: those that are parked behind a hold, or the active ones.
local function turns(lane, hold) return p .. 'turns:' .. lane .. (hold and ':' .. hold or '') end
local function heads(lane, hold) return p .. 'heads:' .. lane .. (hold and ':' .. hold or '') end

-- The hold that a line is parked behind, or false.
local function behind(lane, cell) return redis.call('HGET', p .. 'behind', lane .. '|' .. cell) end

local function anything_behind(hold)
  return redis.call('EXISTS', turns(0, hold), turns(1, hold), turns(2, hold), turns(3, hold), turns(4, hold)) > 0
end

-- Puts a line behind a hold, or (false) back among those that go.
local function put(lane, cell, turn, from, to)
  local head = head_of(lane, cell)
  redis.call('ZREM', turns(lane, from), cell)
  redis.call('ZREM', heads(lane, from), cell)
  if head then
    redis.call('ZADD', turns(lane, to), turn, cell)
    redis.call('ZADD', heads(lane, to), head, cell)
  end
  if head and to then
    redis.call('HSET', p .. 'behind', lane .. '|' .. cell, to)
  else
    redis.call('HDEL', p .. 'behind', lane .. '|' .. cell)
  end
end

-- Brings a line's place among the others up to date with its jobs.
local function refresh(lane, cell)
  local head = head_of(lane, cell)
  local hold = behind(lane, cell)
  if head then
    if not redis.call('ZSCORE', turns(lane, hold), cell) then redis.call('ZADD', turns(lane, hold), enter(cell), cell) end
    redis.call('ZADD', heads(lane, hold), head, cell)
  else
    redis.call('ZREM', turns(lane, hold), cell)
    redis.call('ZREM', heads(lane, hold), cell)
    if hold then redis.call('HDEL', p .. 'behind', lane .. '|' .. cell) end
  end
end

local function remove(seq, place)
  local lane, _, cell = split(place)
  redis.call('HDEL', p .. 'jobs', seq)
  redis.call('ZREM', p .. 'line:' .. lane .. ':' .. cell, seq)
  refresh(lane, cell)
end

-- Says how many of these (number, place, number, place, ...) were not there already. Lines are brought up to date once for all
-- of their jobs, those of jobs that are known, too: whatever a line has lost comes back when the index is filled again.
local function insert(entries)
  local new, lines = 0, {}
  for i = 1, #entries, 2 do
    local seq, place = entries[i], entries[i + 1]
    local old = redis.call('HGET', p .. 'jobs', seq)
    local lane, since, cell = split(place)
    if old ~= place then
      if old then remove(seq, old) end
      redis.call('HSET', p .. 'jobs', seq, place)
      redis.call('ZADD', p .. 'line:' .. lane .. ':' .. cell, since, seq)
      new = new + 1
    end
    lines[lane .. '|' .. cell] = { lane, cell }
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

-- Whoever is parked behind it comes back with the next looks. Whether there is anybody.
local function let_go(hold)
  local any = anything_behind(hold)
  if any then redis.call('SADD', p .. 'thawing', hold) end
  return any
end

-- Nothing is known to be in the way any more.
local function lift(hold)
  redis.call('ZREM', p .. 'holds', hold)
  redis.call('HDEL', p .. 'free', hold)
  return let_go(hold)
end

-- So many places of a limit were given up, or a queue goes again. Whether anything was held back by it.
local function release(hold, places)
  if redis.call('ZSCORE', p .. 'holds', hold) then
    local what = string.sub(hold, 1, 2)
    if what == 'q:' or what == 'c:' then return lift(hold) end
    redis.call('HINCRBY', p .. 'free', hold, places)
  else
    -- A version before this one ends holds without it.
    redis.call('HDEL', p .. 'free', hold)
  end
  return let_go(hold)
end

-- The lane, of those up to the last one, whose longest waiting job has aged furthest, how many lanes there are to choose from, and how far
-- that has aged: among the lines behind a hold, or among those that go.
local function next_lane(last_lane, hold)
  local best, aged, lanes = nil, nil, 0
  for lane = 0, last_lane do
    local head = redis.call('ZRANGE', heads(lane, hold), 0, 0, 'WITHSCORES')[2]
    if head then
      lanes = lanes + 1
      local age = tonumber(head) + lane % 4 * LANE_MS
      if not best or age < aged then best, aged = tostring(lane), age end
    end
  end
  return best, lanes, aged
end

-- The line whose turn it is, with that turn and its owner's next one. One whose owner was served elsewhere in the meantime has
-- a later turn than it stands with.
-- Who is to go before all that waits does so whosever turn it is.
local function next_cell(lane, hold)
  local head = redis.call('ZRANGE', heads(lane, hold), 0, 0, 'WITHSCORES')
  if head[1] and tonumber(head[2]) <= FRONT then
    local cell = head[1]
    local stands = tonumber(redis.call('ZSCORE', turns(lane, hold), cell) or '0')
    local own = math.max(tonumber(own_turn(cell) or stands), stands)
    if own > stands then redis.call('ZADD', turns(lane, hold), own, cell) end
    return cell, own, own
  end
  while true do
    local first = redis.call('ZRANGE', turns(lane, hold), 0, 0, 'WITHSCORES')
    local cell, turn = first[1], tonumber(first[2])
    if not cell then return nil end
    local own = tonumber(own_turn(cell) or turn)
    if own <= turn then return cell, turn, own end
    redis.call('ZADD', turns(lane, hold), own, cell)
  end
end

-- What may hold a cell back.
local function holds_of(cell)
  local part = parts(cell)
  local holds = { 'q:' .. part[1], 'k:' .. part[2], 'o:' .. part[3] }
  if part[4] ~= '' then holds[4] = 'c:' .. part[4] end
  holds[#holds + 1] = 'a:'
  return holds
end

-- A cell's owner had so many turns, from this one on.
local function serve(cell, turn, n)
  local last = math.max(tonumber(redis.call('GET', p .. 'turn') or '0'), turn + (n - 1) * STEP)
  redis.call('SET', p .. 'turn', string.format('%.0f', last))
  redis.call('ZADD', p .. 'owners', turn + n * STEP, parts(cell)[3])
  if redis.call('ZCARD', p .. 'owners') > OWNERS_MAX then redis.call('ZREMRANGEBYSCORE', p .. 'owners', '-inf', last) end
end
