-- Give a session up, if the attachment is still its own.
-- KEYS: record
-- ARGV: attachment (16 bytes), ttl_ms
-- OUT:  {gone} {unreadable} {superseded} {detached}
-- PEXPIRE comes first: after it a Redis out of memory lets through the write that follows, which needs none.
local key = KEYS[1]
local attachment, ttl_ms = ARGV[1], ARGV[2]

local head = redis.call('GETRANGE', key, 0, 17)
if head == '' then return {'gone'} end
if head:sub(1, 1) ~= '1' then return {'unreadable'} end
if head:sub(3, 18) ~= attachment then return {'superseded'} end
redis.call('PEXPIRE', key, ttl_ms)
redis.call('SETRANGE', key, 2, string.rep('\0', 16) .. '0000000000000')
return {'detached'}
