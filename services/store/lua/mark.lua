-- Make a place doubtful now, before its record is deleted; the new score fences its removal.
-- An odd score is a mark; every other score is even. A mark that is there is shared: two ends
-- of one session that marked in turn would each find the other's in place of their own, for ever.
-- KEYS: places
-- ARGV: member, places_ttl_ms
-- OUT:  {absent} {marked, score}
-- PEXPIRE comes first: after it a Redis out of memory lets through the write that follows, which needs none.
local places = KEYS[1]
local member, places_ttl_ms = ARGV[1], ARGV[2]

local known = redis.call('ZSCORE', places, member)
if not known then return {'absent'} end
if known % 2 == 1 then
  redis.call('PEXPIRE', places, places_ttl_ms)
  return {'marked', string.format('%.0f', known)}
end
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
now_us = now_us - now_us % 2 + 1
local score = string.format('%.0f', now_us)
redis.call('PEXPIRE', places, places_ttl_ms)
redis.call('ZADD', places, score, member)
return {'marked', score}
