-- ARGV: number
local place = redis.call('HGET', p .. 'jobs', ARGV[1])
if place then remove(ARGV[1], place) end
return 0
