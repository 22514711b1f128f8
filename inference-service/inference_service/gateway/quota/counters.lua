-- One visit of one gateway: it tells what it spent and promised, and takes and gives back portions.
--
-- KEYS[1]     the gateways that live, by when they were last here
-- KEYS[2...]  counters, each a hash:
--   s   what is spent: in the period, or (of a rate) within the window
--   d   of a rate: what was spent beyond the limit and waits to be counted in a later window
--   o   of a rate: the oldest piece of the window; the pieces are in the hash KEY:w
--   r:  by gateway: "all that it ever told, what it holds, until when". Of a budget, what a gateway held that is gone
--       stays held: nobody knows how much of it was spent. If it comes back it says so itself
-- ARGV        gateway, how long it counts as living without a visit (0: it leaves), how long a portion is its own, and
--             FIELDS for each counter, as `local` names them below
-- Answers     the number of gateways, and for each counter: 1 (0: it must be filled first), by how much the portion
--             grew, what is spent, what is free, in how many milliseconds what was wanted may be free (-1: unknown),
--             and what gateways held that are gone
local FIELDS, PIECES, FORGOTTEN_MS = 16, 240, 86400000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local me, lives_ms, hold_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if lives_ms > 0 then
  redis.call('ZADD', KEYS[1], now + lives_ms, me)
else
  redis.call('ZREM', KEYS[1], me)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local gateways = math.max(1, redis.call('ZCARD', KEYS[1]))

local function exact(number)
  return string.format('%.17g', number)
end

local function record(rate, amount)
  local counted = math.min(amount, math.max(0, rate.limit - rate.s))
  if counted > 0 then
    redis.call('HINCRBYFLOAT', rate.pieces, rate.current, exact(counted))
    rate.s = rate.s + counted
  end
  rate.d = rate.d + amount - counted
end

local function slide(rate)
  local left_until = rate.current - PIECES - 1
  while rate.o <= left_until and rate.s > 0 do
    local piece = redis.call('HGET', rate.pieces, rate.o)
    if piece then
      redis.call('HDEL', rate.pieces, rate.o)
      rate.s = math.max(0, rate.s - tonumber(piece))
    end
    rate.o = rate.o + 1
  end
  if rate.s == 0 then
    redis.call('DEL', rate.pieces)
    rate.o = rate.current
  end
  if rate.d > 0 then
    local due = rate.d
    rate.d = 0
    record(rate, due)
  end
end

local function free_in(rate, missing)
  local freed = 0
  for number = rate.o, rate.current do
    freed = freed + tonumber(redis.call('HGET', rate.pieces, number) or 0)
    if freed >= missing then
      return math.ceil((number + PIECES + 1) * rate.width - now)
    end
  end
  return -1
end

local answer = { tostring(gateways) }
for i = 2, #KEYS do
  local key, at = KEYS[i], 3 + (i - 2) * FIELDS
  local function told(n) return tonumber(ARGV[at + n]) end
  local window, limit, whole, may_fill, known, seen = told(1), told(2), told(3), told(4), told(5), told(6)
  local acknowledged, total, promised, keep = told(7), told(8), told(9), told(10)
  local least, wanted, more, leaves, life_ms, budget = told(11), told(12), told(13), told(14), told(15), told(16)

  local counter, others, mine, gone, forgotten = {}, 0, nil, 0, {}
  local fields = redis.call('HGETALL', key)
  for f = 1, #fields, 2 do
    local name, value = fields[f], fields[f + 1]
    if string.sub(name, 1, 2) ~= 'r:' then
      counter[name] = tonumber(value)
    else
      local its_total, held, expires = string.match(value, '^(%S+) (%S+) (%S+)$')
      if name == 'r:' .. me then
        mine = tonumber(its_total)
      elseif tonumber(expires) > now then
        others = others + tonumber(held)
      else
        if budget == 1 then gone = gone + tonumber(held) end
        if tonumber(expires) + FORGOTTEN_MS < now then forgotten[name] = tonumber(held) end
      end
    end
  end

  if not counter.s and may_fill == 0 then
    for _, part in ipairs({ '0', '0', '0', '0', '-1', '0' }) do answer[#answer + 1] = part end
  else
    -- What this gateway has seen spent is spent, though Redis may have lost it.
    local lost = not counter.s or (known == 1 and not mine)
    local fresh = math.max(0, total - math.max(mine or 0, acknowledged))
    local spent = counter.s or 0
    local rate = nil
    if window > 0 then
      local width = window / PIECES
      local current = math.floor(now / width)
      rate = { limit = limit, pieces = key .. ':w', width = width, current = current }
      rate.s, rate.d, rate.o = spent, counter.d or 0, counter.o or current
      slide(rate)
      if lost then record(rate, math.max(0, seen - rate.s - rate.d)) end
      if fresh > 0 then record(rate, fresh) end
      spent = rate.s + rate.d
    else
      spent = math.max(spent, seen) + fresh
    end

    for name, held in pairs(forgotten) do
      redis.call('HDEL', key, name)
      if budget == 1 then spent, gone = spent + held, gone - held end
    end

    local free = limit - spent - others - gone - promised - keep
    local grown, wait = 0, -1
    if free < 0 then
      grown = math.max(free, -keep)
    elseif wanted > 0 or more > 0 then
      local portion = math.min(more, free / (2 * gateways))
      if whole == 1 then portion = math.floor(portion) end
      if free >= least then grown = math.min(free, wanted + portion) end
    end
    if rate and wanted > 0 and free < least then wait = free_in(rate, least - free) end

    if rate then
      redis.call('HSET', key, 's', exact(rate.s), 'd', exact(rate.d), 'o', exact(rate.o))
      redis.call('PEXPIRE', rate.pieces, life_ms)
    else
      redis.call('HSET', key, 's', exact(spent))
    end
    if leaves == 1 then
      redis.call('HDEL', key, 'r:' .. me)
    else
      local held = exact(promised + keep + grown)
      redis.call('HSET', key, 'r:' .. me, exact(total) .. ' ' .. held .. ' ' .. exact(now + hold_ms))
    end
    redis.call('PEXPIRE', key, life_ms)
    answer[#answer + 1] = '1'
    answer[#answer + 1] = exact(grown)
    answer[#answer + 1] = exact(spent)
    answer[#answer + 1] = exact(free - grown)
    answer[#answer + 1] = exact(wait)
    answer[#answer + 1] = exact(gone)
  end
end
return answer
