-- The batch and its transactions: shared/wire/README.md, field by field.
return function(rw)
  local ena, xen, msgpack = rw.ena, rw.xen, rw.msgpack
  local W = "ringwire"

  local OP, FIELDS = {}, {}
  rw.OP = OP
  local SEVERITY = rw.SEVERITIES

  local op_field = rw.field(W .. ".op", "u8", { names = OP })
  local transaction_item = rw.field(W .. ".transaction", "none")
  local value_field = rw.field(W .. ".value", "string")
  local data_bin = rw.field(W .. ".bytes", "bytes")
  rw.trailing_field = rw.field(W .. ".trailing", "bytes")
  local function f(name, kind, options) return rw.field(W .. "." .. name, kind, options) end

  -- Fields of several transactions have one filter, the others carry the transaction's name.
  local SHARED = { tag = "u32", space = "u32", address = "u64", length = "u32" }
  -- Fields that xen_hypercall.lua shows.
  local ELSEWHERE = { number = true, command = true, errno = true }
  for op = 0, 255 do
    local transaction = rw.TRANSACTIONS[op]
    if transaction then
      local name, specs = transaction[1], {}
      for i = 2, #transaction do
        local field, kind, width, shown = transaction[i][1], transaction[i][2], transaction[i][3], nil
        local shared = name ~= "fault" and SHARED[field]
        local abbr = shared and field or name .. "." .. field
        if kind == "text" then shown = f(abbr, "string")
        elseif kind == "uint" and not ELSEWHERE[field] then
          shown = f(abbr, shared or width, { hex = transaction[i].hex, names = field == "severity" and SEVERITY or nil })
        end
        specs[#specs + 1] = { field, kind, shown, width }
      end
      OP[op], FIELDS[op] = name, specs
    end
  end
  -- What fits a field; a wider number is told, not shown.
  local MAX = { u8 = 2 ^ 8, u16 = 2 ^ 16, u32 = 2 ^ 32 }

  -- Keys of hello and welcome that have a filter; others are shown as they are.
  local KEYS = {}
  for key, kind in pairs({ version = "u32", personality = "string", name = "string", instance = "string",
    agent = "string", mac = "string", queues = "u32", mtu = "u32", segment = "string", epoch = "u64", maxMtu = "u32",
    pushBytes = "u32", revision = "u32", deviceMemory = "bool" }) do
    local snake = key:gsub("(%u)", function(c) return "_" .. c:lower() end)
    KEYS[key] = { f("hello." .. snake, kind), kind }
  end

  local register_of = rw.field("ringwire.ena.reg.name", "string")

  local function u64_value(value) return UInt64.new(value % 4294967296, math.floor(value / 4294967296)) end

  local function add_number(m, tree, spec, range, value)
    local max = MAX[spec[4]]
    if max == nil then
      if tree then tree:add(spec[3], range, u64_value(value)) end
    elseif value < max then
      if tree then tree:add(spec[3], range, value) end
    else rw.expert(m, tree, "malformed", spec[1] .. " " .. rw.dec(value) .. " is out of range") end
  end

  -- The map of hello or welcome.
  local function greeting(m, tree, at, name)
    local function seen(key, kind, value, content, from, next, word)
      local known = KEYS[key]
      local range = m.tvb(from, next - from)
      local function add(field, shown)
        if tree then tree:add(field, range, shown) end
      end
      if known == nil then add(value_field, key .. "=" .. word)
      elseif known[2] == "string" and kind == "str" then add(known[1], msgpack.text(m, content, value))
      elseif known[2] == "bool" and kind == "bool" then add(known[1], value)
      elseif known[2] == "u64" and kind == "uint" then add(known[1], u64_value(value))
      elseif known[2] == "u32" and kind == "uint" and value < 2 ^ 32 then add(known[1], value)
      else rw.expert(m, tree, "malformed", name .. ": " .. key .. " is " .. kind) end
    end
    local words, next, kind = msgpack.words(m, at, name, seen)
    if kind ~= "map" then rw.expert(m, tree, "malformed", name .. " is not a map") end
    return words, next
  end

  -- What each transaction says and shows, given its fields by name: numbers, texts, and bins as
  -- { at, length }.
  local SAY = {}
  SAY[2] = function(_, _, v) return msgpack.quote(v.code) .. " " .. msgpack.quote(v.text) end
  SAY[3] = function(_, _, v) return "sent=" .. rw.dec(v.sent) .. " echo=" .. rw.dec(v.echo) end
  SAY[4] = function(_, _, v) return "bytes=" .. rw.dec(v.bytes) end
  SAY[5] = function(m, tree, v)
    local severity = SEVERITY[v.severity]
    rw.expert(m, tree, "fault_" .. (severity or "device"), v.code .. ": " .. v.text)
    return string.format("%s %s %s %s", severity or "?", msgpack.quote(v.code), msgpack.quote(v.text),
      rw.place(v.space, v.address))
  end
  SAY[6] = function(_, _, v) return msgpack.quote(v.url) end
  SAY[16] = function(_, _, v) return rw.hex(v.address) .. " length=" .. rw.dec(v.length) end
  SAY[17] = function(_, _, v) return rw.hex(v.address) end
  local function column(op)
    return function(m, tree, v) return rw.column(m, tree, op, v.data[1], v.data[2], v.records[1], v.records[2]) end
  end
  SAY[18], SAY[19], SAY[22] = column(18), column(19), column(22)
  SAY[20] = function(m, _, v)
    rw.ask(m, rw.remember, "tags", "r" .. rw.dec(v.tag), v.space)
    return string.format("tag=%.0f %s length=%.0f", v.tag, rw.place(v.space, v.address), v.length)
  end
  SAY[21] = function(m, tree, v)
    local space = rw.ask(m, rw.recall, "tags", "r" .. rw.dec(v.tag))
    if v.status ~= 0 then
      local why = space == 1 and ": " .. rw.name_of(xen.GNTST, -v.status) or ""
      rw.expert(m, tree, "refused", "read refused" .. why)
    end
    if tree and v.bytes[2] > 0 then tree:add(data_bin, m.tvb(v.bytes[1], v.bytes[2])) end
    local refused = v.status == 0 and "" or v.status == 1 and " refused"
      or " refused " .. rw.name_of(xen.GNTST, -v.status)
    return string.format("tag=%.0f%s bytes=%.0f", v.tag, refused, v.bytes[2])
  end
  SAY[23] = function(m, tree, v)
    local where
    if v.bar == 0 then where = ena.register_name(m, v.offset)
    else where = string.format("BAR%.0f+%s", v.bar, rw.hex(v.offset)) end
    rw.ask(m, rw.remember, "tags", "m" .. rw.dec(v.tag), { v.bar, v.offset, where })
    if tree then tree:add(register_of, where):set_generated() end
    return string.format("tag=%.0f %s length=%.0f", v.tag, where, v.length)
  end
  SAY[24] = function(m, tree, v)
    local read = rw.ask(m, rw.recall, "tags", "m" .. rw.dec(v.tag))
    local at, length = v.bytes[1], v.bytes[2]
    if tree and read then tree:add(register_of, read[3]):set_generated() end
    if length ~= 4 then
      if tree and length > 0 then tree:add(data_bin, m.tvb(at, length)) end
      return string.format("tag=%.0f %.0f bytes", v.tag, length)
    end
    ena.register_value(m, tree, at, read and read[1] == 0 and read[2] or -1, rw.u32(m, at), read and read[3])
    return "tag=" .. rw.dec(v.tag) .. " " .. rw.hex(rw.u32(m, at))
  end
  SAY[25] = function(_, _, v) return "vector=" .. rw.dec(v.vector) end

  -- Packed records that are no column: the first few in words.
  function rw.packed(m, tree, at, length, size, describe)
    local count = math.floor(length / size)
    if length % size ~= 0 then rw.expert(m, tree, "record", rw.dec(length % size) .. " bytes behind the last whole record") end
    local words = {}
    for i = 0, count - 1 do
      local said = describe(m, rw.room(m, tree, "entries"), at + i * size)
      if #words < 4 then words[#words + 1] = said end
    end
    if count > #words then words[#words + 1] = (count - #words) .. " more" end
    return string.format("%d %s: %s", count, count == 1 and "record" or "records", table.concat(words, "; "))
  end
  SAY[32] = function(m, tree, v)
    local size = xen.GRANT_BYTES[v.version]
    if size == nil then
      rw.expert(m, tree, "record", "grant version " .. rw.dec(v.version) .. " is unknown")
      return "version=" .. rw.dec(v.version)
    end
    return "v" .. rw.dec(v.version) .. " " .. rw.packed(m, tree, v.records[1], v.records[2], size,
      function(mm, item, at) return xen.grant(mm, item, at, v.version) end)
  end
  SAY[33] = function(m, tree, v) return rw.packed(m, tree, v.records[1], v.records[2], 4, xen.end_grant) end
  SAY[34] = function(m, tree, v) return rw.packed(m, tree, v.records[1], v.records[2], 8, xen.grant_use) end
  SAY[35] = function(m, tree, v) return "tag=" .. rw.dec(v.tag) .. " " .. xen.hypercall(m, tree, v) end
  SAY[36] = function(m, tree, v) return "tag=" .. rw.dec(v.tag) .. " " .. xen.hypercall_reply(m, tree, v) end
  SAY[37] = function(_, _, v) return "port=" .. rw.dec(v.port) end
  SAY[38] = function(m, tree, v) return xen.xenstore(m, tree, v.bytes[1], v.bytes[2]) end

  -- Reads one field. Raises a malformed error when it is of another kind.
  local function read_field(m, tree, at, op_name, spec, v)
    local name, wanted = spec[1], spec[2]
    local what = op_name .. ": " .. name
    local kind, value, content, next = msgpack.item(m, at, what)
    if wanted == "uint" then
      if kind ~= "uint" then msgpack.malformed(what .. ": expected an unsigned integer, found " .. kind, at) end
      if value >= 2 ^ 53 then msgpack.malformed(what .. ": a number of more than 53 bits", at) end
      local range = m.tvb(at, next - at)
      v[name], v.ranges[name] = value, range
      if spec[3] then add_number(m, tree, spec, range, value) end
      return next
    end
    if wanted == "text" then
      if kind ~= "str" then msgpack.malformed(what .. ": expected text, found " .. kind, at) end
      v[name] = msgpack.text(m, content, value)
      if tree then tree:add(spec[3], m.tvb(at, next - at), v[name]) end
      return next
    end
    if kind ~= "bin" then msgpack.malformed(what .. ": expected binary, found " .. kind, at) end
    v[name] = { content, value }
    return next
  end

  --- A transaction at `at`. Returns its words and where the next begins.
  function rw.transaction(m, index, at)
    local what = "transaction " .. index
    local kind, count, _, next = msgpack.item(m, at, what)
    if kind ~= "array" then msgpack.malformed(what .. ": expected an array, found " .. kind, at) end
    if count == 0 then msgpack.malformed(what .. ": no opcode", at) end
    local op_kind, op, _, body = msgpack.item(m, next, what .. ": opcode")
    if op_kind ~= "uint" or op > 255 then msgpack.malformed(what .. ": not an opcode", next) end
    local name = OP[op] or "opcode " .. rw.dec(op)

    local tree = rw.room(m, m.root, "transactions")
    if tree then
      tree = tree:add(transaction_item, m.tvb(at, math.max(body - at, 1)))
      tree:set_text(name)
      tree:add(op_field, m.tvb(next, body - next), op)
    end
    m.tree = tree

    local fields = FIELDS[op]
    if op <= 1 and count == 2 then
      local words, stop = greeting(m, tree, body, name)
      if tree then tree:set_len(stop - at):append_text(" " .. words) end
      return name .. " " .. words, stop
    end
    -- A greeting without its map has no fields either.
    if op <= 1 or fields == nil or count ~= #fields + 1 then
      if fields == nil and op > 1 then rw.expert(m, tree, "opcode", name .. " is not in the catalogue")
      else rw.expert(m, tree, "malformed", string.format("%s with %.0f fields", name, count)) end
      local said = {}
      for _ = 1, count - 1 do
        local from = body
        local word
        word, body = msgpack.words(m, body, name)
        if tree and #said < 64 then tree:add(value_field, m.tvb(from, body - from), word) end
        if #said < 16 then said[#said + 1] = word end
      end
      if tree then tree:set_len(body - at) end
      return rw.line(name, table.concat(said, " ")), body
    end
    local v = { ranges = {} }
    for _, spec in ipairs(fields) do body = read_field(m, tree, body, name, spec, v) end
    if tree then tree:set_len(body - at) end
    local words = rw.line(name, SAY[op](m, tree, v))
    if tree then tree:set_text(words) end
    return words, body
  end
end
