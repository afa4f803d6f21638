-- Places after a (score, member), in that order. Scores of sessions that stay only rise.
-- KEYS: places
-- ARGV: score ('' from the start), member, limit
-- OUT:  {found, member, score, member, score, ...}
local places = KEYS[1]
local score, member, limit = ARGV[1], ARGV[2], ARGV[3]

local start = 0
if score ~= '' then
  local known = redis.call('ZSCORE', places, member)
  if known and tonumber(known) == tonumber(score) then
    start = redis.call('ZRANK', places, member) + 1
  else
    start = redis.call('ZCOUNT', places, '-inf', '(' .. score)
  end
end
local found = redis.call('ZRANGE', places, start, start + limit - 1, 'WITHSCORES')
local answer = {'found'}
for at = 1, #found do
  answer[at + 1] = at % 2 == 0 and string.format('%.0f', found[at]) or found[at]
end
return answer
