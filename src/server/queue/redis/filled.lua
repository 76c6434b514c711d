-- ARGV: who has filled the index. Answers with a 1 when nothing was lost since it began: whoever empties Redis in the middle
-- takes the note of it along.
if redis.call('GET', p .. 'filling') ~= ARGV[1] then return 0 end
redis.call('SET', p .. 'marker', ARGV[1])
redis.call('DEL', p .. 'filling')
return 1
