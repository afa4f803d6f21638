-- One step or reset: swap generation and body, remember the request, renew TTL and, if asked, lease.
-- KEYS: record
-- ARGV: attachment (16 bytes, or '' for no fence), entry (20 bytes, or ''), expected, generation, body, ttl_ms, lease_ms (or '', which leaves the lease as it is)
-- OUT:  {gone} {unreadable} {superseded} {replayed, record} {conflict, record} {stale, record} {committed}
-- Decided in that order; replayed, conflict and stale renew the TTL too, which makes each a write: a WAIT for replicas covers a connection's own writes only, and these show what another one may have written.
-- The one write of a commit is the SET, so that a Redis out of memory refuses all of it.
-- Half of a commit's time is spent here: few strings are cut, and a remembered request is searched for by one `find`, which goes on where bytes happen to match that begin no entry.
local key = KEYS[1]
local attachment, entry, expected, generation = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local body, ttl_ms, lease_ms = ARGV[5], ARGV[6], ARGV[7]
local sub, find = string.sub, string.find

local record = redis.call('GET', key)
if not record then return {'gone'} end
if sub(record, 1, 1) ~= '1' then return {'unreadable'} end
local attached = attachment ~= ''
if attached and sub(record, 3, 18) ~= attachment then return {'superseded'} end

local count = sub(record, 48, 48)
local kept = 20 * count
if entry ~= '' then
  local id = sub(entry, 1, 8)
  local at = find(record, id, 49, true)
  while at and at < 49 + kept do
    if at % 20 == 9 then
      redis.call('PEXPIRE', key, ttl_ms)
      return {sub(record, at + 8, at + 15) == sub(entry, 9, 16) and 'replayed' or 'conflict', record}
    end
    at = find(record, id, at + 1, true)
  end
end
if sub(record, 32, 47) ~= expected then
  redis.call('PEXPIRE', key, ttl_ms)
  return {'stale', record}
end

local head
if attached and lease_ms ~= '' then
  local time = redis.call('TIME')
  head = sub(record, 1, 18) .. string.format('%013.0f', time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms)
else
  head = sub(record, 1, 31)
end
if entry ~= '' then
  if count == '8' then kept = 140 else count = count + 1 end
end
redis.call('SET', key, head .. generation .. count .. entry .. sub(record, 49, 48 + kept) .. body, 'PX', ttl_ms)
return {'committed'}
