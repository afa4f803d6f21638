-- Keep a worker's word about itself in place of its last; a worker's first forgets those who have long been silent.
-- KEYS: workers
-- ARGV: worker, word, kept_ms
-- OUT:  {kept}
-- A word stands behind the time it came at, 13 digits of ms by Redis TIME. Only a first word adds a field, so no more than one is kept of each worker that began, or spoke, within kept_ms.
-- PEXPIRE comes first: after it a Redis out of memory lets through the write that follows, since that is when somebody looks.
local workers = KEYS[1]
local worker, word, kept_ms = ARGV[1], ARGV[2], ARGV[3]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('PEXPIRE', workers, kept_ms)
if redis.call('HSET', workers, worker, string.format('%013.0f', now_ms) .. word) == 1 then
  redis.call('PEXPIRE', workers, kept_ms)
  local known = redis.call('HGETALL', workers)
  for at = 1, #known, 2 do
    if (tonumber(known[at + 1]:sub(1, 13)) or 0) <= now_ms - kept_ms then
      redis.call('HDEL', workers, known[at])
    end
  end
end
return {'kept'}
