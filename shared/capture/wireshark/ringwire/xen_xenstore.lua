-- Xenstore messages. Source: xen: xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt.
--
-- Requests and replies have the same type; the direction tells them apart, and the request's path
-- is shown with the reply that has its id.
return function(rw)
  local xen = rw.xen
  local S = "ringwire.xenstore"
  local TYPE = { [0] = "CONTROL", "DIRECTORY", "READ", "GET_PERMS", "WATCH", "UNWATCH", "TRANSACTION_START",
    "TRANSACTION_END", "INTRODUCE", "RELEASE", "GET_DOMAIN_PATH", "WRITE", "MKDIR", "RM", "SET_PERMS", "WATCH_EVENT",
    "ERROR", "IS_DOMAIN_INTRODUCED", "RESUME", "SET_TARGET", [21] = "RESET_WATCHES", [22] = "DIRECTORY_PART",
    [23] = "GET_FEATURE", [24] = "SET_FEATURE", [25] = "GET_QUOTA", [26] = "SET_QUOTA" }
  local header = rw.layout(S, { { "type", 0, "u32", names = TYPE }, { "req_id", 4, "u32" }, { "tx_id", 8, "u32" },
    { "len", 12, "u32" } })
  local path_field, value_field = rw.field(S .. ".path", "string"), rw.field(S .. ".value", "string")
  local token_field, error_field = rw.field(S .. ".token", "string"), rw.field(S .. ".error", "string")
  local name_field, end_field = rw.field(S .. ".name", "string"), rw.field(S .. ".transaction_end", "string")
  local PATH = { [1] = true, [2] = true, [3] = true, [12] = true, [13] = true, [22] = true }

  -- A ring's reference in the store is what joins a ring page with its queue.
  local RING_KEY = { ["tx-ring-ref"] = "tx", ["rx-ring-ref"] = "rx", ["ctrl-ring-ref"] = "ctrl" }

  local function asked(c, id, path, key, value)
    if c.requests[id] == nil and c.remembered < rw.MAX_REMEMBERED then c.remembered = c.remembered + 1 end
    if c.remembered < rw.MAX_REMEMBERED then c.requests[id] = path end
    if key then
      local grant = c.grants[tonumber(value) or -1]
      if grant then c.ring_refs[grant.frame] = key end
    end
    return nil
  end
  local function replied(c, id)
    local path = c.requests[id]
    if path ~= nil then
      c.requests[id] = nil
      c.remembered = c.remembered - 1
    end
    return path
  end

  local function ring_name(path)
    local key = path:match("([^/]+)$")
    local side = key and RING_KEY[key]
    if side == nil then return nil end
    return side .. " ring of queue " .. (path:match("/queue%-(%d+)/") or "0")
  end

  --- A message of `length` bytes. Returns "WRITE device/vif/0/state = 4".
  function xen.xenstore(m, tree, at, length)
    header:add(m, tree, at, at + length)
    if length < 16 then
      rw.expert(m, tree, "record", "a xenstore message of " .. rw.dec(length) .. " bytes; its header has 16")
      return "truncated"
    end
    local kind, id, said = rw.u32(m, at), rw.u32(m, at + 4), rw.u32(m, at + 12)
    local name = rw.name_of(TYPE, kind)
    local body = at + 16
    local size = length - 16
    if said ~= size then
      rw.expert(m, tree, "record", string.format("len says %.0f bytes, %.0f are there", said, size))
      size = math.min(said, size)
    end
    -- The payload as parts that end with a zero byte; what is behind the last one is the value.
    local parts, from = {}, body
    local raw = size > 0 and m.tvb:raw(body, size) or ""
    for text, position in raw:gmatch("([^%z]*)%z()") do
      if #parts < 64 then parts[#parts + 1] = { rw.msgpack.utf8(text), m.tvb(from, math.max(#text, 1)), #text } end
      from = body + position - 1
    end
    local rest = rw.msgpack.utf8(raw:sub(from - body + 1))
    local rest_range = from < body + size and m.tvb(from, body + size - from) or m.tvb(at, 16)
    local function show(field, part)
      if tree and part then tree:add(field, part[2], part[1]) end
      return part and part[1] or ""
    end

    if kind == 15 then
      return rw.line("WATCH_EVENT", show(path_field, parts[1]), "token=" .. show(token_field, parts[2]))
    end
    if m.direction == "out" then
      local words, path, ring = name, nil, nil
      if kind == 11 then
        path = show(path_field, parts[1])
        if tree then tree:add(value_field, rest_range, rest) end
        ring = ring_name(path)
        words = rw.line(name, path, "= " .. rest)
      elseif kind == 4 or kind == 5 then
        path = show(path_field, parts[1])
        words = rw.line(name, path, "token=" .. show(token_field, parts[2]))
      elseif kind == 7 then words = rw.line(name, show(end_field, parts[1]))
      elseif PATH[kind] or kind == 14 then
        path = show(path_field, parts[1])
        words = rw.line(name, path)
      elseif parts[1] then words = rw.line(name, show(value_field, parts[1])) end
      rw.ask(m, asked, id, path or "", ring, rest)
      return words
    end

    local path = rw.ask(m, replied, id)
    if tree and path and path ~= "" then tree:add(path_field, path):set_generated() end
    if kind == 16 then
      local why = show(error_field, parts[1])
      rw.expert(m, tree, "status", "xenstore: " .. why)
      return rw.line("ERROR", why, path)
    end
    if kind == 1 then
      for _, part in ipairs(parts) do show(name_field, part) end
      return rw.line(name, path, "entries=" .. #parts)
    end
    local value = rest ~= "" and rest or parts[1] and parts[1][1] or ""
    if tree then tree:add(value_field, rest ~= "" and rest_range or parts[1] and parts[1][2] or rest_range, value) end
    return rw.line(name, path, "= " .. value)
  end
end
