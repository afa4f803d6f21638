-- Create a session's record, or say how the one that is there stands to the request.
-- KEYS: record
-- ARGV: may_create ('1' or '0'), origin (a, n, m or g), attachment (16 bytes, or ''), generation, entry (20 bytes, or ''), body, ttl_ms, lease_ms
-- OUT:  {made} {absent} {unreadable} {replayed, record} {conflict, record} {stale, record}
-- A record that carries this generation is this call's own work, whose answer was lost. Whatever is shown has its TTL renewed: a write, so that a WAIT for replicas covers it.
local key = KEYS[1]
local may_create, origin, attachment, generation = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local entry, body, ttl_ms, lease_ms = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local record = redis.call('GET', key)
if record then
  if record:sub(1, 1) ~= '1' then return {'unreadable'} end
  redis.call('PEXPIRE', key, ttl_ms)
  if entry ~= '' then
    local count = tonumber(record:sub(48, 48))
    for at = 49, 29 + 20 * count, 20 do
      if record:sub(at, at + 7) == entry:sub(1, 8) then
        return {record:sub(at + 8, at + 15) == entry:sub(9, 16) and 'replayed' or 'conflict', record}
      end
    end
  end
  if record:sub(32, 47) == generation then return {'made'} end
  return {'stale', record}
end
if may_create ~= '1' then return {'absent'} end

local lease_until = '0000000000000'
if attachment ~= '' or origin == 'a' then
  local time = redis.call('TIME')
  lease_until = string.format('%013.0f', time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms)
end
if attachment == '' then attachment = string.rep('\0', 16) end
redis.call('SET', key, table.concat({
  '1', origin, attachment, lease_until, generation, entry == '' and '0' or '1', entry, body
}), 'PX', ttl_ms)
return {'made'}
