-- A record with what Redis knows of it; renews nothing, so a WAIT for replicas need not cover it: no step is decided on it.
-- KEYS: record
-- ARGV:
-- OUT:  {gone} {found, record, expires_in_ms, now_ms}
local key = KEYS[1]

local record = redis.call('GET', key)
if not record then return {'gone'} end
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return {'found', record, redis.call('PTTL', key), now_ms}
