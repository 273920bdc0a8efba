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
  -- By type of a request: the fields of its strings. A request of another type has a value.
  local PATH, PATH_AND_TOKEN = { path_field }, { path_field, token_field }
  local REQUEST = { [1] = PATH, [2] = PATH, [3] = PATH, [4] = PATH_AND_TOKEN, [5] = PATH_AND_TOKEN, [7] = { end_field },
    [11] = { path_field, value_field }, [12] = PATH, [13] = PATH, [14] = PATH, [22] = PATH }
  local WATCH_EVENT = 15

  -- A ring's reference in the store is what joins a ring page with its queue.
  local RING_KEY = { ["tx-ring-ref"] = "tx", ["rx-ring-ref"] = "rx", ["ctrl-ring-ref"] = "ctrl" }

  local function ring_named(c, name, reference)
    local frame = c.grants[tonumber(reference) or -1]
    if frame then c.ring_refs[frame] = name end
  end

  local function ring_name(path)
    local key = path:match("([^/]+)$")
    local side = key and RING_KEY[key]
    if side == nil then return nil end
    return side .. " ring of queue " .. (path:match("/queue%-(%d+)/") or "0")
  end

  local MAX_STRINGS, MAX_STRING, MAX_PAYLOAD = 16, 128, 4096

  local function quoted(text)
    return rw.msgpack.quote(#text > MAX_STRING and text:sub(1, MAX_STRING) .. "..." or text)
  end

  -- Why these bytes are not exactly one message.
  local function malformed(m, at, length)
    if length < 16 then return string.format("%.0f bytes are no message header", length) end
    local said = rw.u32(m, at + 12)
    if said > MAX_PAYLOAD then return string.format("a payload of %.0f bytes", said) end
    if said ~= length - 16 then
      return string.format("%.0f bytes of payload, the header says %.0f", length - 16, said)
    end
    return nil
  end

  --- A message of `length` bytes. Returns 'WRITE req=7 tx=1 "device/vif/0/state" "4"'.
  function xen.xenstore(m, tree, at, length)
    header:add(m, tree, at, at + length)
    local wrong = malformed(m, at, length)
    if wrong then
      rw.expert(m, tree, "record", "xenstore: " .. wrong)
      return "malformed: " .. wrong
    end
    local kind, id, transaction = rw.u32(m, at), rw.u32(m, at + 4), rw.u32(m, at + 8)
    local body, size = at + 16, length - 16
    -- The payload's strings, each with its range; the last one may lack its end mark.
    local parts, from = {}, 1
    local raw = size > 0 and m.tvb:raw(body, size) or ""
    local whole = raw:sub(-1) == "\0" and raw:sub(1, -2) or raw
    if size > 0 then
      for text, next in (whole .. "\0"):gmatch("([^%z]*)%z()") do
        local room = math.max(math.min(#text, size - from + 1), 0)
        local range = room > 0 and m.tvb(body + from - 1, room) or m.tvb(at, 16)
        parts[#parts + 1] = { rw.msgpack.utf8(text), range }
        from = next
      end
    end
    local function text(i) return parts[i] and parts[i][1] or "" end
    local function show(fields)
      for i, field in ipairs(fields) do
        if tree and parts[i] then tree:add(field, parts[i][2], text(i)) end
      end
    end

    if kind == WATCH_EVENT then show(PATH_AND_TOKEN)
    elseif m.direction == "out" then
      local fields = REQUEST[kind] or { value_field }
      show(fields)
      rw.ask(m, rw.remember, "requests", id, fields[1] == path_field and text(1) or "")
      local ring = kind == 11 and ring_name(text(1))
      if ring then rw.ask(m, ring_named, ring, text(2)) end
    else
      local path = rw.ask(m, rw.recall, "requests", id)
      if tree and path and path ~= "" then tree:add(path_field, path):set_generated() end
      if kind == 1 then
        for i = 1, tree and math.min(#parts, 256) or 0 do tree:add(name_field, parts[i][2], text(i)) end
      elseif kind == 16 then
        show({ error_field })
        rw.expert(m, tree, "status", "xenstore: " .. text(1))
      else show({ value_field }) end
    end

    local words = {}
    for i = 1, math.min(#parts, MAX_STRINGS) do words[i] = quoted(parts[i][1]) end
    return rw.line(rw.name_of(TYPE, kind), "req=" .. rw.dec(id), transaction ~= 0 and "tx=" .. rw.dec(transaction),
      table.concat(words, " "), #parts > MAX_STRINGS and (#parts - MAX_STRINGS) .. " more")
  end
end
