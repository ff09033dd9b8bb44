-- What changed in one key since a revision. KEYS: config, overrides, changes. ARGV: revision, most changes to return.
-- Answer {config or '', revision, epoch, read everything instead (0 or 1), now ms, name, document, ...}.
-- Everything is to be read when more changed than was asked for, or when removals since then are forgotten by now.
local revision = redis.call('ZSCORE', KEYS[3], '@') or '0'
local epoch = redis.call('ZSCORE', KEYS[3], '@epoch') or '0'
local pruned = tonumber(redis.call('ZSCORE', KEYS[3], '@pruned') or '0')
local names = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2] + 1)
local all = #names > tonumber(ARGV[2]) or tonumber(ARGV[1]) < pruned
local t = redis.call('TIME')
local answer = {redis.call('GET', KEYS[1]) or '', revision, epoch, all and 1 or 0,
  string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))}
for _, name in ipairs(names) do
  if string.sub(name, 1, 1) ~= '@' then
    answer[#answer + 1] = name
    answer[#answer + 1] = redis.call('HGET', KEYS[2], name) or ''
  end
end
return answer
