-- Take a place in the pool, doubtful in reserved_us; or hold the one there is, beyond doubt for half of that.
-- A score is left alone where it can be: a list in the order of scores goes on meanwhile.
-- KEYS: places
-- ARGV: member, max_sessions, reserved_us, places_ttl_ms
-- OUT:  {held, active} {reserved, active} {full, active}
local places = KEYS[1]
local member, max_sessions, reserved_us, places_ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local time = redis.call('TIME')
local doubtful_us = time[1] * 1000000 + time[2] + reserved_us
doubtful_us = doubtful_us - doubtful_us % 2
local known = redis.call('ZSCORE', places, member)
local active = redis.call('ZCARD', places)
if not known and active >= tonumber(max_sessions) then
  redis.call('PEXPIRE', places, places_ttl_ms)
  return {'full', active}
end
if not known or tonumber(known) < doubtful_us - reserved_us / 2 then
  redis.call('ZADD', places, string.format('%.0f', doubtful_us), member)
end
redis.call('PEXPIRE', places, places_ttl_ms)
if known then return {'held', active} end
return {'reserved', active + 1}
