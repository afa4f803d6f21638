-- Remove a place, if its score is still the one examined.
-- KEYS: places
-- ARGV: member, score, places_ttl_ms
-- OUT:  {changed} {freed}
local places = KEYS[1]
local member, score, places_ttl_ms = ARGV[1], ARGV[2], ARGV[3]

local known = redis.call('ZSCORE', places, member)
if not known or tonumber(known) ~= tonumber(score) then return {'changed'} end
redis.call('ZREM', places, member)
redis.call('PEXPIRE', places, places_ttl_ms)
return {'freed'}
