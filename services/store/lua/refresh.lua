-- Put a place beyond doubt until its record may end, if its score is still the one examined.
-- KEYS: places
-- ARGV: member, score, doubtful_us, places_ttl_ms
-- OUT:  {changed} {refreshed}
local places = KEYS[1]
local member, score, doubtful_us, places_ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local known = redis.call('ZSCORE', places, member)
if not known or tonumber(known) ~= tonumber(score) then return {'changed'} end
redis.call('ZADD', places, doubtful_us, member)
redis.call('PEXPIRE', places, places_ttl_ms)
return {'refreshed'}
