-- ARGV: numbers
for _, seq in ipairs(ARGV) do
  local place = redis.call('HGET', p .. 'jobs', seq)
  if place then remove(seq, place) end
end
return 0
