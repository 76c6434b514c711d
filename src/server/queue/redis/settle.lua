-- ARGV: numbers
for _, seq in ipairs(ARGV) do
  redis.call('ZREM', p .. 'taken', seq)
  redis.call('HDEL', p .. 'kept', seq)
end
return 0
