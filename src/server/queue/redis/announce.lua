-- ARGV: number, place, number, place, …
local seqs = {}
for i = 1, #ARGV, 2 do seqs[#seqs + 1] = ARGV[i] end
forget(seqs)
local new = insert(ARGV)
wake(new)
return new
