-- Make an attachment the session's; whichever was before is superseded from here on.
-- KEYS: record
-- ARGV: attachment (16 bytes), unless_owned ('1' or '0'), ttl_ms, lease_ms
-- OUT:  {gone} {unreadable} {owned, record} {attached, record}
-- Owned: unless_owned was asked for and another attachment's lease still runs; nothing was changed.
local key = KEYS[1]
local attachment, unless_owned, ttl_ms, lease_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local record = redis.call('GET', key)
if not record then return {'gone'} end
if record:sub(1, 1) ~= '1' then return {'unreadable'} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local owner = record:sub(3, 18)
if unless_owned == '1' and owner ~= attachment and owner ~= string.rep('\0', 16)
  and tonumber(record:sub(19, 31)) > now_ms then
  return {'owned', record}
end
local lease_until = string.format('%013.0f', now_ms + lease_ms)
record = record:sub(1, 2) .. attachment .. lease_until .. record:sub(32)
redis.call('SET', key, record, 'PX', ttl_ms)
return {'attached', record}
