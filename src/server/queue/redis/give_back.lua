-- ARGV: numbers; or none: those whose deadline has passed. Answers with how many wait again.
local seqs = ARGV
if #seqs == 0 then seqs = redis.call('ZRANGEBYSCORE', p .. 'taken', '-inf', now(), 'LIMIT', 0, 1000) end
local entries = {}
for _, seq in ipairs(seqs) do
  local place = redis.call('HGET', p .. 'kept', seq)
  if place then
    entries[#entries + 1] = seq
    entries[#entries + 1] = place
  end
end
forget(seqs)
insert(entries)
wake(#seqs)
return #seqs
