-- What changed in one key since a revision. KEYS: config, overrides, changes. ARGV: revision, most changes to return.
-- Answer {config or '', revision, epoch, more than asked (0 or 1), name, document, ...}.
local revision = redis.call('ZSCORE', KEYS[3], '@') or '0'
local epoch = redis.call('ZSCORE', KEYS[3], '@epoch') or '0'
local names = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2] + 1)
local answer = {redis.call('GET', KEYS[1]) or '', revision, epoch, #names > tonumber(ARGV[2]) and 1 or 0}
for _, name in ipairs(names) do
  if string.sub(name, 1, 1) ~= '@' then
    answer[#answer + 1] = name
    answer[#answer + 1] = redis.call('HGET', KEYS[2], name) or ''
  end
end
return answer
