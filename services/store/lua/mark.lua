-- Make a place doubtful now, before its record is deleted; the new score fences its removal.
-- An odd score is a mark; every other score is even.
-- KEYS: places
-- ARGV: member, places_ttl_ms
-- OUT:  {absent} {marked, score}
local places = KEYS[1]
local member, places_ttl_ms = ARGV[1], ARGV[2]

local known = redis.call('ZSCORE', places, member)
if not known then return {'absent'} end
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
now_us = now_us - now_us % 2 + 1
if tonumber(known) == now_us then now_us = now_us + 2 end
local score = string.format('%.0f', now_us)
redis.call('ZADD', places, score, member)
redis.call('PEXPIRE', places, places_ttl_ms)
return {'marked', score}
