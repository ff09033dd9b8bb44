-- One decision: read the two windows, admit or not, write the counter and the console's statistics.
-- KEYS: counter, minute, hour, top, near, blocked, signals, actives: all with one hash tag.
-- ARGV: limit (-1 unlimited), window ms, mode (H, S, W), warn percent, valid from ms, valid until ms (-1 none),
--       key, subject, source, hour ttl s, minute ttl s, cost, now ms ('' = server's clock), peek ('1' writes nothing)
-- Answer "status:current:previous:index:now:over": 1 admitted, 0 blocked, 2 resolved for another time.
local now
if ARGV[13] == '' then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
else
  now = tonumber(ARGV[13])
end
if now < tonumber(ARGV[5]) or (ARGV[6] ~= '-1' and now >= tonumber(ARGV[6])) then
  return string.format('2:0:0:0:%.0f:0', now)
end
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[12])
local stored = redis.call('HMGET', KEYS[1], 'i', 'c', 'p', 'n', 'v')
local present = math.floor(now / window)
local index, current, previous = tonumber(stored[1]), tonumber(stored[2]) or 0, tonumber(stored[3]) or 0
local fresh = false
if not index then
  index, fresh = present, true
elseif present > index then
  previous = present == index + 1 and current or 0
  index, current, fresh = present, 0, true
end
local gone = math.min(math.max(now - index * window, 0), window)
local before = math.floor(previous * (window - gone) / window) + current
local after = before + cost
local over = 0
if limit >= 0 and after > limit then over = math.min(cost, after - limit) end
if ARGV[14] == '1' then
  return string.format('1:%.0f:%.0f:%.0f:%.0f:0', current, previous, index, now)
end
local key, subject = ARGV[7], ARGV[8]
if over > 0 and (ARGV[3] == 'H' or limit == 0) then
  if redis.call('HINCRBY', KEYS[2], key .. '|b', 1) == 1 then redis.call('EXPIRE', KEYS[2], ARGV[11]) end
  if redis.call('HINCRBY', KEYS[3], 'b|' .. key .. '|' .. subject, cost) == cost then
    redis.call('EXPIRE', KEYS[3], ARGV[10])
  end
  redis.call('LPUSH', KEYS[6], string.format('%.0f|%.0f|%.0f|%.0f|', now, limit, before, cost)
    .. key .. '|' .. ARGV[9] .. '|' .. subject)
  redis.call('LTRIM', KEYS[6], 0, 99)
  if limit > 0 and tonumber(stored[5]) ~= index then
    redis.call('HSET', KEYS[1], 'v', index)
    if not stored[1] then redis.call('PEXPIRE', KEYS[1], 2 * window + 60000) end
    redis.call('XADD', KEYS[7], 'MAXLEN', '~', 200, '*', 'at', string.format('%.0f', now), 'key', key,
      'subject', subject, 'kind', 'over', 'limit', limit, 'used', before,
      'mode', ARGV[3], 'source', ARGV[9], 'window', ARGV[2])
  end
  return string.format('0:%.0f:%.0f:%.0f:%.0f:%.0f', current, previous, index, now, over)
end
current = current + cost
if fresh then
  redis.call('HSET', KEYS[1], 'i', index, 'c', current, 'p', previous)
  redis.call('PEXPIRE', KEYS[1], 2 * window + 60000)
else
  redis.call('HSET', KEYS[1], 'c', current)
end
local outcome = '|a'
if over > 0 then
  outcome = ARGV[3] == 'S' and '|s' or '|w'
  redis.call('HINCRBY', KEYS[3], 'o|' .. key .. '|' .. subject, over)
end
if redis.call('HINCRBY', KEYS[2], key .. outcome, 1) == 1 then redis.call('EXPIRE', KEYS[2], ARGV[11]) end
if redis.call('HINCRBY', KEYS[3], 'a|' .. key .. '|' .. subject, cost) == cost then
  redis.call('HINCRBY', KEYS[8], key, 1)
  redis.call('EXPIRE', KEYS[8], ARGV[10])
  redis.call('EXPIRE', KEYS[3], ARGV[10])
end
-- Ranked when the share moves by a whole percent: often enough, and seldom enough to cost nothing.
local share, moved = nil, fresh
if limit > 0 then
  share = math.floor(after * 100 / limit)
  moved = fresh or share ~= math.floor(before * 100 / limit)
else
  moved = fresh or current % 16 < cost
end
if moved then
  local member = ARGV[2] .. '|' .. subject
  -- Rank the subject in a set of 50; where that is full, those of windows long over make room first. Such are looked
  -- for when a window of the subject begins: often enough, and seldom. See keys.RANKS.
  local function rank(set, value)
    local score = math.min(value, 1099511627776) * 4096 + index % 4096
    local size = redis.call('ZADD', set, score, member) == 1 and redis.call('ZCARD', set) or 0
    if size > 50 then
      if fresh then
        local all, gone = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES'), {}
        for i = 1, #all, 2 do
          local width = tonumber(string.match(all[i], '^%d+'))
          local age = width and (math.floor(now / width) - all[i + 1]) % 4096
          if not age or (age > 1 and age < 4095) then gone[#gone + 1] = all[i] end
        end
        if #gone > 0 then redis.call('ZREM', set, unpack(gone)) end
      end
      redis.call('ZREMRANGEBYRANK', set, 0, -51)
    end
    if fresh or size == 1 then redis.call('EXPIRE', set, math.max(tonumber(ARGV[10]), math.ceil(window / 500) + 60)) end
  end
  rank(KEYS[4], after)
  if share then rank(KEYS[5], share) end
  local mark
  if share and over > 0 then
    if tonumber(stored[5]) ~= index then mark = 'v' end
  elseif share and after * 100 >= limit * ARGV[4] then
    if tonumber(stored[4]) ~= index then mark = 'n' end
  end
  if mark then
    redis.call('HSET', KEYS[1], mark, index)
    redis.call('XADD', KEYS[7], 'MAXLEN', '~', 200, '*', 'at', string.format('%.0f', now), 'key', key,
      'subject', subject, 'kind', mark == 'v' and 'over' or 'near', 'limit', limit, 'used', after,
      'mode', ARGV[3], 'source', ARGV[9], 'window', ARGV[2])
  end
end
return string.format('1:%.0f:%.0f:%.0f:%.0f:%.0f', current, previous, index, now, over)
