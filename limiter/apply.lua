-- Bring one key's policies to a newer version; what is older than what is stored is ignored.
-- KEYS: config, overrides, changes. ARGV: version, base document ('' leaves it, '-' removes it),
-- channel ('' says nothing yet: more is to come), message, '1' when only a key that is there may be changed,
-- then pairs of override name and document ('' removes it).
-- Answer {revision, 1 when anything changed, -1 when the key is not there}. The revision grows with every change,
-- across restarts too.
local version = tonumber(ARGV[1])
local t = redis.call('TIME')
local stored = tonumber(redis.call('ZSCORE', KEYS[3], '@') or '0')
if stored == 0 and ARGV[5] == '1' then return {'0', -1} end
local revision = math.max(t[1] * 1000000 + t[2], stored + 1)
local changed, told = false, {}
if ARGV[2] ~= '' then
  local known = tonumber(redis.call('ZSCORE', KEYS[3], '@base') or '-1')
  if version > known then
    if ARGV[2] == '-' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
    redis.call('ZADD', KEYS[3], version, '@base')
    changed = true
  end
end
for i = 6, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[2], ARGV[i])
  local readable, before = pcall(cjson.decode, known or '')
  if not known or not readable or type(before) ~= 'table' or version > (tonumber(before.version) or -1) then
    local document = ARGV[i + 1]
    if document == '' then document = string.format('{"version":%.0f,"deleted":true}', version) end
    redis.call('HSET', KEYS[2], ARGV[i], document)
    redis.call('ZADD', KEYS[3], revision, ARGV[i])
    told[#told + 1] = ARGV[i]
    told[#told + 1] = document
    changed = true
  end
end
if not changed then return {string.format('%.0f', stored), 0} end
if ARGV[3] == '' then
  redis.call('ZADD', KEYS[3], revision, '@untold')
  return {string.format('%.0f', stored), 1}
end
if stored == 0 then redis.call('ZADD', KEYS[3], revision, '@epoch') end
redis.call('ZADD', KEYS[3], revision, '@')
-- The change itself goes first, so that subscribers need not come and ask; a large one, or one with parts that were
-- written before and not told, they fetch.
if redis.call('ZREM', KEYS[3], '@untold') == 0 and #ARGV <= 45 then
  redis.call('PUBLISH', ARGV[3] .. ':changes', cjson.encode({ARGV[4], string.format('%.0f', stored),
    string.format('%.0f', revision), redis.call('ZSCORE', KEYS[3], '@epoch'), redis.call('GET', KEYS[1]) or '', told}))
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return {string.format('%.0f', revision), 1}
