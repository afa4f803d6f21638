-- Put a place beyond doubt until its record may end, if its score is still the one examined.
-- KEYS: places
-- ARGV: member, score, doubtful_us, places_ttl_ms
-- OUT:  {changed} {refreshed}
-- PEXPIRE comes first: after it a Redis out of memory lets through the write that follows, which needs none.
local places = KEYS[1]
local member, score, doubtful_us, places_ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local known = redis.call('ZSCORE', places, member)
if not known or tonumber(known) ~= tonumber(score) then return {'changed'} end
redis.call('PEXPIRE', places, places_ttl_ms)
redis.call('ZADD', places, doubtful_us, member)
return {'refreshed'}
