-- Take a block of permits and settle the last one. KEYS as in decide.lua, and what was last settled of this chain.
-- ARGV 1-11 as in decide.lua, 12 least needed, 13 now ms or '', 14 most wanted, 15 units to give back,
-- 16 index of the window they came from, 17-20 decisions made locally: allowed, soft, warned, blocked, 21 over,
-- 22 units spent locally, 23 units refused locally, 24 number of this settlement in its chain, 25 seconds to remember
-- it. Usage is recorded when spent, so that it never shrinks. A settlement that was done, and whose answer was lost,
-- comes again with the same number: then only what it granted is taken back.
-- Answer as decide.lua, with the units granted as a seventh field. With 12 = 0 only settles.
local now
if ARGV[13] == '' then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
else
  now = tonumber(ARGV[13])
end
local key, subject = ARGV[7], ARGV[8]
local limit, window, need = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[12])
local wanted, back, from = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
local spent, refused = tonumber(ARGV[22]), tonumber(ARGV[23])
local done = {tonumber(ARGV[17]), tonumber(ARGV[18]), tonumber(ARGV[19]), tonumber(ARGV[20])}
local beyond = tonumber(ARGV[21])
local last, lent, lent_in = string.match(redis.call('GET', KEYS[9]) or '', '^(%d+):(%d+):(%d+)$')
if last == ARGV[24] then
  back, from, spent, refused, done, beyond = tonumber(lent), tonumber(lent_in), 0, 0, {0, 0, 0, 0}, 0
end
local stored = redis.call('HMGET', KEYS[1], 'i', 'c', 'p', 'n', 'v')
local present = math.floor(now / window)
local index, current, previous = tonumber(stored[1]), tonumber(stored[2]) or 0, tonumber(stored[3]) or 0
if not index then
  index = present
elseif present > index then
  previous = present == index + 1 and current or 0
  index, current = present, 0
end
if back > 0 then
  if from == index then current = math.max(current - back, 0)
  elseif from == index - 1 then previous = math.max(previous - back, 0) end
end
if spent > 0 and redis.call('HINCRBY', KEYS[3], 'a|' .. key .. '|' .. subject, spent) == spent then
  redis.call('HINCRBY', KEYS[8], key, 1)
  redis.call('EXPIRE', KEYS[8], ARGV[10])
  redis.call('EXPIRE', KEYS[3], ARGV[10])
end
if refused > 0 and redis.call('HINCRBY', KEYS[3], 'b|' .. key .. '|' .. subject, refused) == refused then
  redis.call('EXPIRE', KEYS[3], ARGV[10])
end
local outcomes = {'a', 's', 'w', 'b'}
for i = 1, 4 do
  local n = done[i]
  if n > 0 and redis.call('HINCRBY', KEYS[2], key .. '|' .. outcomes[i], n) == n then
    redis.call('EXPIRE', KEYS[2], ARGV[11])
  end
end
if beyond > 0 then redis.call('HINCRBY', KEYS[3], 'o|' .. key .. '|' .. subject, beyond) end
local status, granted = 1, 0
local gone = math.min(math.max(now - index * window, 0), window)
local used = math.floor(previous * (window - gone) / window) + current
if need > 0 then
  if now < tonumber(ARGV[5]) or (ARGV[6] ~= '-1' and now >= tonumber(ARGV[6])) then
    status = 2
  else
    granted = wanted
    if limit == 0 then granted = 0
    elseif limit > 0 and ARGV[3] == 'H' then granted = math.max(math.min(wanted, limit - used), 0) end
    if granted < need then granted, status = 0, 0 end
  end
end
current = current + granted
redis.call('HSET', KEYS[1], 'i', index, 'c', current, 'p', previous)
redis.call('PEXPIRE', KEYS[1], 2 * window + 60000)
redis.call('SET', KEYS[9], string.format('%s:%.0f:%.0f', ARGV[24], granted, index), 'EX', ARGV[25])
-- What is surely used: what was before, and the call that asks. A lease settled in a later window tells nothing new.
local sure = used
if granted > 0 then sure = used + need end
if limit > 0 and (granted > 0 or status == 0 or (need == 0 and from == index)) then
  local mark
  if sure > limit or status == 0 then
    if tonumber(stored[5]) ~= index then mark = 'v' end
  elseif sure * 100 >= limit * ARGV[4] then
    if tonumber(stored[4]) ~= index then mark = 'n' end
  end
  if mark then
    redis.call('HSET', KEYS[1], mark, index)
    redis.call('XADD', KEYS[7], 'MAXLEN', '~', 200, '*', 'at', string.format('%.0f', now), 'key', key,
      'subject', subject, 'kind', mark == 'v' and 'over' or 'near', 'limit', limit, 'used', sure,
      'mode', ARGV[3], 'source', ARGV[9], 'window', ARGV[2])
  end
end
local member = ARGV[2] .. '|' .. subject
-- As in decide.lua.
local function rank(set, value)
  local score = math.min(value, 1099511627776) * 4096 + index % 4096
  if redis.call('ZADD', set, score, member) == 1 and redis.call('ZCARD', set) > 50 then
    local all, over = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES'), {}
    for i = 1, #all, 2 do
      local width = tonumber(string.match(all[i], '^%d+'))
      local age = width and (math.floor(now / width) - all[i + 1]) % 4096
      if not age or (age > 1 and age < 4095) then over[#over + 1] = all[i] end
    end
    if #over > 0 then redis.call('ZREM', set, unpack(over)) end
    redis.call('ZREMRANGEBYRANK', set, 0, -51)
  end
  redis.call('EXPIRE', set, math.max(tonumber(ARGV[10]), math.ceil(window / 500) + 60))
end
if granted > 0 then
  rank(KEYS[4], used + granted)
  if limit > 0 then rank(KEYS[5], math.floor((used + granted) * 100 / limit)) end
elseif status == 0 then
  if redis.call('HINCRBY', KEYS[3], 'b|' .. key .. '|' .. subject, need) == need then
    redis.call('EXPIRE', KEYS[3], ARGV[10])
  end
  redis.call('LPUSH', KEYS[6], string.format('%.0f|%.0f|%.0f|%.0f|', now, limit, used, need)
    .. key .. '|' .. ARGV[9] .. '|' .. subject)
  redis.call('LTRIM', KEYS[6], 0, 99)
end
return string.format('%d:%.0f:%.0f:%.0f:%.0f:0:%.0f', status, current, previous, index, now, granted)
