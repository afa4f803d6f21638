-- Delete a record that was made without a place, if nothing happened to it since.
-- KEYS: record
-- ARGV: generation (16 bytes, the one it was made with)
-- OUT:  {gone} {changed} {ended}
local key = KEYS[1]
local generation = ARGV[1]

local head = redis.call('GETRANGE', key, 0, 46)
if head == '' then return {'gone'} end
if head:sub(1, 1) ~= '1' or head:sub(32, 47) ~= generation then return {'changed'} end
redis.call('DEL', key)
return {'ended'}
