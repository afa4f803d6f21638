-- Delete a record; with an attachment only while it is the session's own.
-- KEYS: record
-- ARGV: attachment (16 bytes, or '' for no fence)
-- OUT:  {gone} {unreadable} {superseded} {ended}
local key = KEYS[1]
local attachment = ARGV[1]

local head = redis.call('GETRANGE', key, 0, 17)
if head == '' then return {'gone'} end
if head:sub(1, 1) ~= '1' then return {'unreadable'} end
if attachment ~= '' and head:sub(3, 18) ~= attachment then return {'superseded'} end
redis.call('DEL', key)
return {'ended'}
