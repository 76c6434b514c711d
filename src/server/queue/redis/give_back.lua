-- ARGV: numbers; or none: those whose deadline has passed. Answers with how many wait again.
local seqs = ARGV
if #seqs == 0 then seqs = redis.call('ZRANGEBYSCORE', p .. 'taken', '-inf', now(), 'LIMIT', 0, 1000) end
for _, seq in ipairs(seqs) do
  local place = redis.call('HGET', p .. 'kept', seq)
  redis.call('ZREM', p .. 'taken', seq)
  redis.call('HDEL', p .. 'kept', seq)
  if place then insert(seq, place) end
end
wake(#seqs)
return #seqs
