-- What every worker said of itself last, and how long ago, in ms.
-- KEYS: workers
-- ARGV:
-- OUT:  {found, worker, age, word, worker, age, word, ...}
local workers = KEYS[1]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGETALL', workers)
local answer = {'found'}
for at = 1, #known, 2 do
  local said = known[at + 1]
  answer[#answer + 1] = known[at]
  answer[#answer + 1] = string.format('%.0f', now_ms - (tonumber(said:sub(1, 13)) or 0))
  answer[#answer + 1] = said:sub(14)
end
return answer
