-- ARGV: numbers; or none: those whose deadline has passed. Answers with how many wait again.
local seqs = ARGV
if #seqs == 0 then seqs = redis.call('ZRANGEBYSCORE', p .. 'taken', '-inf', now(), 'LIMIT', 0, 1000) end
-- As if they had not been taken: a job that did not run was no turn of its owner's, or whoever is refused behind a limit would
-- stand no better than those that ran.
local entries, went = {}, {}
for _, seq in ipairs(seqs) do
  local kept = redis.call('HGET', p .. 'kept', seq)
  if kept then
    local turn, paid, place = string.match(kept, '^(%d+)|(%d+)>(.*)$')
    -- A version before this one kept no more than the place.
    place = place or kept
    local _, _, cell = split(place)
    local own = cell and own_turn(cell)
    if own and paid then
      redis.call('ZADD', p .. 'owners', math.max(0, tonumber(own) - tonumber(paid)), parts(cell)[3])
    end
    if cell then
      entries[#entries + 1] = seq
      entries[#entries + 1] = place
      went[#went + 1] = turn or false
    end
  end
end
forget(seqs)
insert(entries)
for i, turn in ipairs(went) do
  local lane, _, cell = split(entries[2 * i])
  local hold = behind(lane, cell)
  local was = hold and own_turn(cell) or turn
  if was then redis.call('ZADD', turns(lane, hold), 'XX', 'LT', was, cell) end
end
wake(#seqs)
return #seqs
