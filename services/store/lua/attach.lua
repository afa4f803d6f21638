-- Make an attachment the session's; whichever was before is superseded from here on.
-- KEYS: record
-- ARGV: attachment (16 bytes), ttl_ms, lease_ms
-- OUT:  {gone} {unreadable} {attached, record}
local key = KEYS[1]
local attachment, ttl_ms, lease_ms = ARGV[1], ARGV[2], ARGV[3]

local record = redis.call('GET', key)
if not record then return {'gone'} end
if record:sub(1, 1) ~= '1' then return {'unreadable'} end
local time = redis.call('TIME')
local lease_until = string.format('%013.0f', time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms)
record = record:sub(1, 2) .. attachment .. lease_until .. record:sub(32)
redis.call('SET', key, record, 'PX', ttl_ms)
return {'attached', record}
