-- ARGV: the hold, milliseconds
redis.call('SREM', p .. 'thawing', ARGV[1])
redis.call('HDEL', p .. 'free', ARGV[1])
redis.call('ZADD', p .. 'holds', now() + tonumber(ARGV[2]), ARGV[1])
return 0
