-- Delete an anonymous record whose attachment and lapsed lease are still the ones examined.
-- KEYS: record
-- ARGV: attachment (16 bytes, NULs for none), lease_until (13 digits)
-- OUT:  {gone} {changed} {ended}
local key = KEYS[1]
local attachment, lease_until = ARGV[1], ARGV[2]

local head = redis.call('GETRANGE', key, 0, 30)
if head == '' then return {'gone'} end
if head:sub(1, 2) ~= '1a' or head:sub(3, 31) ~= attachment .. lease_until then return {'changed'} end
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) < tonumber(lease_until) then return {'changed'} end
redis.call('DEL', key)
return {'ended'}
