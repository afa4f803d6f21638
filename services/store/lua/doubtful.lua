-- The doubtful places, oldest first.
-- KEYS: places
-- ARGV: skip, limit
-- OUT:  {found, active, now_us, member, score, member, score, ...}
local places = KEYS[1]
local skip, limit = ARGV[1], ARGV[2]

local time = redis.call('TIME')
local now_us = string.format('%.0f', time[1] * 1000000 + time[2])
local found = redis.call('ZRANGEBYSCORE', places, '-inf', now_us, 'WITHSCORES', 'LIMIT', skip, limit)
local answer = {'found', redis.call('ZCARD', places), now_us}
for at = 1, #found do
  answer[at + 3] = at % 2 == 0 and string.format('%.0f', found[at]) or found[at]
end
return answer
