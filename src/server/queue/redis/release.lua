-- ARGV: the hold
if release(ARGV[1]) then wake(1) end
return 0
