-- ARGV: who fills the index, seconds. Answers with a 1 when nobody else does, and nothing was lost since it began.
if redis.call('GET', p .. 'filling') ~= ARGV[1] then return 0 end
return redis.call('EXPIRE', p .. 'filling', ARGV[2])
