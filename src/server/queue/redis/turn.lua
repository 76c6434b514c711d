-- ARGV: lane, cell. Moves an owner's turn on for a job that is not in the index, if it would be the next one taken were it inserted
-- now, as the youngest of all: answers with a 1 then. Not when any limit is known to have refused its like of late, lines wait to
-- come back, or the index is not whole.
local lane, cell = ARGV[1], ARGV[2]
if redis.call('EXISTS', p .. 'marker') == 0 or redis.call('EXISTS', p .. 'thawing') == 1 then return 0 end
if redis.call('EXISTS', p .. 'line:' .. lane .. ':' .. cell) == 1 then return 0 end
if redis.call('EXISTS', p .. 'holds') == 1 then
  for _, hold in ipairs(holds_of(cell)) do
    if redis.call('ZSCORE', p .. 'holds', hold) then return 0 end
  end
end
local turn = math.max(tonumber(redis.call('GET', p .. 'turn') or '0'), tonumber(own_turn(cell) or '0'))
local next = next_lane(4)
if next then
  -- Whatever is in front goes first, and whoever has had less.
  if next ~= lane or tonumber(redis.call('ZRANGE', heads(lane, false), 0, 0, 'WITHSCORES')[2]) <= FRONT then return 0 end
  local first, its = next_cell(lane, false)
  if not first or its < turn then return 0 end
end
serve(cell, turn, 1)
return 1
