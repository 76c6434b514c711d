-- ARGV: lane, cell. Moves an owner's turn on for a job that is not in the index, if it may go now: none of its cell waits in its
-- lane; nobody in it has had less than its owner; and no job of another lane is to go before a fresh one of this lane. Answers with
-- a 1 then. Not when any limit is known to have refused its like of late, lines wait to come back, or the index is not whole.
local lane, cell = ARGV[1], ARGV[2]
if redis.call('EXISTS', p .. 'marker') == 0 or redis.call('EXISTS', p .. 'thawing') == 1 then return 0 end
if redis.call('EXISTS', p .. 'line:' .. lane .. ':' .. cell) == 1 then return 0 end
if redis.call('EXISTS', p .. 'holds') == 1 then
  for _, hold in ipairs(holds_of(cell)) do
    if redis.call('ZSCORE', p .. 'holds', hold) then return 0 end
  end
end
local turn = math.max(tonumber(redis.call('GET', p .. 'turn') or '0'), tonumber(own_turn(cell) or '0'))
-- Whoever may kill their worker wait for another right than a slot.
local next, _, aged = next_lane(3)
if next == lane then
  -- Whatever is in front goes first.
  if tonumber(redis.call('ZRANGE', heads(lane, false), 0, 0, 'WITHSCORES')[2]) <= FRONT then return 0 end
  local _, first = next_cell(lane, false)
  if not first or first < turn then return 0 end
elseif next then
  if redis.call('EXISTS', heads(lane, false)) == 1 or aged <= now() + tonumber(lane) * LANE_MS then return 0 end
end
serve(cell, turn, 1)
return 1
