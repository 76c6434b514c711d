-- ARGV: the hold, places
if release(ARGV[1], ARGV[2]) then wake(1) end
return 0
