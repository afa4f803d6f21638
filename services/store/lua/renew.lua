-- Renew lease and TTL, if the attachment is still the session's own.
-- KEYS: record
-- ARGV: attachment (16 bytes), ttl_ms, lease_ms
-- OUT:  {gone} {unreadable} {superseded} {renewed}
-- PEXPIRE comes first: after it a Redis out of memory lets through the write that follows, which needs none.
local key = KEYS[1]
local attachment, ttl_ms, lease_ms = ARGV[1], ARGV[2], ARGV[3]

local head = redis.call('GETRANGE', key, 0, 17)
if head == '' then return {'gone'} end
if head:sub(1, 1) ~= '1' then return {'unreadable'} end
if head:sub(3, 18) ~= attachment then return {'superseded'} end
local time = redis.call('TIME')
redis.call('PEXPIRE', key, ttl_ms)
redis.call('SETRANGE', key, 18, string.format('%013.0f', time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms))
return {'renewed'}
