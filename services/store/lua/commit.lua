-- One step or reset: swap generation and body, remember the request, renew lease and TTL.
-- KEYS: record
-- ARGV: attachment (16 bytes, or '' for no fence), entry (20 bytes, or ''), expected, generation, body, ttl_ms, lease_ms
-- OUT:  {gone} {unreadable} {superseded} {replayed, record} {conflict, record} {stale, record} {committed}
-- Decided in that order; replayed, conflict and stale renew the TTL too, which makes each a write: a WAIT for replicas covers a connection's own writes only, and these show what another one may have written.
-- The one write of a commit is the SET, so that a Redis out of memory refuses all of it.
local key = KEYS[1]
local attachment, entry, expected, generation = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local body, ttl_ms, lease_ms = ARGV[5], ARGV[6], ARGV[7]

local record = redis.call('GET', key)
if not record then return {'gone'} end
if record:sub(1, 1) ~= '1' then return {'unreadable'} end
local owner = record:sub(3, 18)
if attachment ~= '' and attachment ~= owner then return {'superseded'} end

local count = tonumber(record:sub(48, 48))
if entry ~= '' then
  local id, digest = entry:sub(1, 8), entry:sub(9, 16)
  for at = 49, 29 + 20 * count, 20 do
    if record:sub(at, at + 7) == id then
      redis.call('PEXPIRE', key, ttl_ms)
      return {record:sub(at + 8, at + 15) == digest and 'replayed' or 'conflict', record}
    end
  end
end
if record:sub(32, 47) ~= expected then
  redis.call('PEXPIRE', key, ttl_ms)
  return {'stale', record}
end

local lease_until = record:sub(19, 31)
if attachment ~= '' then
  local time = redis.call('TIME')
  lease_until = string.format('%013.0f', time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms)
end
if entry ~= '' and count < 8 then count = count + 1 end
local kept = 20 * count - #entry
redis.call('SET', key, table.concat({
  record:sub(1, 18), lease_until, generation, string.format('%d', count), entry, record:sub(49, 48 + kept), body
}), 'PX', ttl_ms)
return {'committed'}
