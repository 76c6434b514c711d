-- ARGV: number, place, number, place, …
local new = 0
for i = 1, #ARGV, 2 do
  redis.call('ZREM', p .. 'taken', ARGV[i])
  redis.call('HDEL', p .. 'kept', ARGV[i])
  if insert(ARGV[i], ARGV[i + 1]) then new = new + 1 end
end
wake(new)
return new
