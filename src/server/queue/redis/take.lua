-- ARGV: how many at the most, milliseconds that they are kept for their taker, the last lane: 3, or 4 when one suspect may be
-- among them. Of those that share a key there is at most one, and of those that share a limit that refused some of late as many
-- as places came free, or one. Answers with a 1 when the index is whole (the marker is there), a 1 when nothing that may go is
-- left, and the numbers.
local max, keep, last_lane = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local moment = now()

-- Holds that have ended by themselves; and behind ended ones no more lines than may go, and a few for those that something else
-- stops. Those that would go first without the hold come back first, and stay in that order. None comes with a turn
-- that has passed, which would be a claim to all that others had meanwhile: each stands a little behind the one before, and the
-- first behind the one that was served last, so that of two who had as much the one goes whose last turn is longer ago.
local THAWS = 512
for _, hold in ipairs(redis.call('ZRANGEBYSCORE', p .. 'holds', '-inf', moment, 'LIMIT', 0, 1000)) do lift(hold) end
local function thaw()
  local any = false
  for _, hold in ipairs(redis.call('SMEMBERS', p .. 'thawing')) do
    local served = tonumber(redis.call('GET', p .. 'turn') or '0')
    local places = max
    if redis.call('ZSCORE', p .. 'holds', hold) then
      places = math.max(1, tonumber(redis.call('HGET', p .. 'free', hold) or '0'))
    elseif string.sub(hold, 1, 2) == 'c:' then
      places = 1
    end
    for place = 1, math.min(math.min(places, max) + 8, THAWS) do
      local lane = next_lane(last_lane, hold)
      local cell, turn
      if lane then cell, turn = next_cell(lane, hold) end
      if not cell then break end
      put(lane, cell, math.max(turn, served + place), hold, false)
      any = true
    end
    if not anything_behind(hold) then redis.call('SREM', p .. 'thawing', hold) end
  end
  return any
end

local any_holds = redis.call('EXISTS', p .. 'holds') == 1
-- Holds that share a place with a job that goes.
local tried, any_tried = {}, false

local function has_key(cell) return string.sub(cell, -1) ~= SEP end

-- Of a limit that refused some of late how many places came free, or 'none'; false of any other. Each is asked for once.
local looked = {}
local function free_of(hold)
  if looked[hold] == nil then
    looked[hold] = any_holds and redis.call('ZSCORE', p .. 'holds', hold)
    if looked[hold] then looked[hold] = tonumber(redis.call('HGET', p .. 'free', hold) or 'none') or 'none' end
  end
  return looked[hold]
end

-- What keeps a cell's jobs where they are, when those that share the tried ones had their try; and whether they may try again.
local function stopped(cell)
  if not any_holds and not (any_tried and has_key(cell)) then return nil end
  for _, hold in ipairs(holds_of(cell)) do
    local free = free_of(hold)
    if free == 'none' then return hold, false end
    if tried[hold] and (free or 0) <= 0 then return hold, true end
  end
  return nil
end

-- One of the cell's jobs goes, which may take a place of the limits that it is under. Says whether the next one must be looked at.
local function try_place(cell)
  local limited = false
  if not any_holds and not has_key(cell) then return limited end
  for _, hold in ipairs(holds_of(cell)) do
    local free = free_of(hold)
    if free and free > 0 then looked[hold] = redis.call('HINCRBY', p .. 'free', hold, -1) end
    -- Of a key there is one place, and whoever is refused would be so again and again.
    if free or string.sub(hold, 1, 2) == 'c:' then
      tried[hold], any_tried, limited = true, true, true
    end
  end
  return limited
end

-- Lines that one call parks at the most: nobody else is served meanwhile.
local PARKS = 200
local parked = 0
local taken = {}
-- Whatever thawed and was stopped by something else makes room for those behind it.
local thawed = thaw()
while #taken < max and parked < PARKS do
  local lane, lanes = next_lane(last_lane)
  while not lane and #taken == 0 and thawed do
    thawed = thaw()
    lane, lanes = next_lane(last_lane)
  end
  if not lane then break end
  local cell, turn, own = next_cell(lane)
  if not cell then break end
  local hold, tries_again = stopped(cell)
  if hold then
    -- By its owner's turn: for as long as a hold lasts, whoever had less goes first.
    put(lane, cell, own, false, hold)
    if tries_again then redis.call('SADD', p .. 'thawing', hold) end
    parked = parked + 1
  else
    -- Alone, a line gives all that is asked for; otherwise each takes its turn.
    local n = 1
    local limited = try_place(cell)
    if lane == '4' then last_lane = 3 end
    if lane ~= '4' and not limited and lanes == 1 and redis.call('ZCARD', turns(lane)) == 1 then
      n = max - #taken
    end
    local line = p .. 'line:' .. lane .. ':' .. cell
    local popped = redis.call('ZPOPMIN', line, n)
    local got = #popped / 2
    local seqs, went = {}, turn
    for i = 1, #popped, 2 do
      seqs[#seqs + 1] = popped[i]
      taken[#taken + 1] = popped[i]
    end
    in_chunks(seqs, function(...)
      local places = redis.call('HMGET', p .. 'jobs', ...)
      local kept, deadlines = {}, {}
      for i, seq in ipairs({ ... }) do
        kept[2 * i - 1], kept[2 * i] = seq, string.format('%.0f|%.0f>%s', went, went + STEP - own, places[i] or '')
        went, own = went + STEP, went + STEP
        deadlines[2 * i - 1], deadlines[2 * i] = moment + keep, seq
      end
      redis.call('HSET', p .. 'kept', unpack(kept))
      redis.call('HDEL', p .. 'jobs', ...)
      redis.call('ZADD', p .. 'taken', unpack(deadlines))
    end)
    serve(cell, turn, got)
    if head_of(lane, cell) then redis.call('ZADD', turns(lane), turn + got * STEP, cell) end
    refresh(lane, cell)
  end
end
local whole = redis.call('EXISTS', p .. 'marker')
-- Another worker may wait for what is left; or this one looks on.
local thaws = redis.call('EXISTS', p .. 'thawing') == 1
if (#taken > 0 and next_lane(last_lane)) or (parked == PARKS and (thaws or next_lane(last_lane))) then wake(1) end
local rests = #taken < max and parked < PARKS and not thaws
table.insert(taken, 1, rests and 1 or 0)
table.insert(taken, 1, whole)
return taken
