-- Forget overrides that were removed long ago. KEYS: overrides, changes. ARGV: revision, then names.
-- Only what is marked as removed, and was before the revision, goes. A limiter that knew less than the newest of these
-- reads everything, see fetch.lua. Answer: how many went.
local before, count = tonumber(ARGV[1]), 0
local pruned = tonumber(redis.call('ZSCORE', KEYS[2], '@pruned') or '0')
for i = 2, #ARGV do
  local at = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or '0')
  local readable, document = pcall(cjson.decode, redis.call('HGET', KEYS[1], ARGV[i]) or '')
  if at < before and readable and type(document) == 'table' and document.deleted then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
    pruned = math.max(pruned, at)
    count = count + 1
  end
end
if count > 0 then redis.call('ZADD', KEYS[2], string.format('%.0f', pruned), '@pruned') end
return count
