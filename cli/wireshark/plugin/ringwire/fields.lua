-- Fields, expert items and layouts of the dissector, and words for their values.
--
-- A layout is a structure declared once: name, offset, type. The tree, the words of the Info
-- column and the state that follows a connection all read it through the same table, so they
-- can't disagree. Names are those of the files in shared/ena and shared/xen, in snake case: a
-- filter is the layout's prefix and the field's name.
--
--   local mtu = rw.layout("ringwire.ena.feature.mtu", { { "mtu", 0, "u32" } })
--   mtu:add(m, tree, at)        every field that lies inside the captured bytes
--   mtu:get(m, at, "mtu")       its number, nil when it lies outside
--
-- Every part of the dissector is a function over one shared table, `rw`. A part that Wireshark
-- loads by itself, because it lies in the plugin folder, so does nothing.
return function(rw)
  local all, seen = {}, {}

  --- Every ProtoField made so far, for `Proto.fields`.
  rw.fields = all

  local function unsigned(range) return range:le_uint() end
  local function signed(range) return range:le_int() end
  local function wide(range) return range(4):le_uint() * 4294967296 + range(0, 4):le_uint() end

  -- Types of numbers: what makes a field, bytes, and the reader of little-endian bytes.
  local NUMBER = {
    u8 = { ProtoField.uint8, 1, unsigned }, u16 = { ProtoField.uint16, 2, unsigned },
    u32 = { ProtoField.uint32, 4, unsigned }, u48 = { ProtoField.uint64, 6, wide },
    u64 = { ProtoField.uint64, 8, wide }, i16 = { ProtoField.int16, 2, signed },
  }
  local OTHER = { string = ProtoField.string, bytes = ProtoField.bytes, mac = ProtoField.ether, none = ProtoField.none }

  -- rw.u8(m, at) to rw.i16(m, at): the number at a byte of the message, nil where none was captured.
  for kind, number in pairs(NUMBER) do
    local bytes, read = number[2], number[3]
    rw[kind] = function(m, at)
      if at < 0 or at + bytes > m.limit then return nil end
      return read(m.tvb(at, bytes))
    end
  end

  --- "req_id" is shown as "req id".
  local function label(name) return (name:gsub("_", " ")) end

  --- One field, made once for each filter name. `kind` is a type of a layout, or bool, string,
  --- bytes, mac, none.
  function rw.field(abbr, kind, options)
    local known = seen[abbr]
    if known then return known end
    options = options or {}
    local name = options.label or label(abbr:match("([^.]+)$"))
    local field
    if OTHER[kind] then field = OTHER[kind](abbr, name)
    elseif kind == "bool" then
      field = ProtoField.bool(abbr, name, options.bits or base.NONE, nil, options.mask)
    else
      local shown = options.hex and base.HEX or base.DEC
      field = NUMBER[kind][1](abbr, name, shown, options.names, options.mask)
    end
    seen[abbr] = field
    all[#all + 1] = field
    return field
  end

  -- Expert items. Severity of a fault is the fault's own.
  local GROUP, LEVEL = expert.group, expert.severity
  local function item(name, text, group, level)
    return ProtoExpert.new("ringwire.expert." .. name, text, group, level)
  end
  rw.experts = {
    fault_note = item("fault_note", "Fault: tolerated", GROUP.RESPONSE_CODE, LEVEL.NOTE),
    fault_queue = item("fault_queue", "Fault: the queue stops", GROUP.RESPONSE_CODE, LEVEL.WARN),
    fault_device = item("fault_device", "Fault: the device stops", GROUP.RESPONSE_CODE, LEVEL.ERROR),
    refused = item("refused", "Refused", GROUP.RESPONSE_CODE, LEVEL.WARN),
    status = item("status", "A request failed", GROUP.RESPONSE_CODE, LEVEL.NOTE),
    phase = item("phase", "Wrong phase bit", GROUP.SEQUENCE, LEVEL.WARN),
    order = item("order", "Ring entry out of order", GROUP.SEQUENCE, LEVEL.WARN),
    req_id = item("req_id", "Request id is not outstanding", GROUP.SEQUENCE, LEVEL.ERROR),
    twice = item("twice", "Request id is outstanding already", GROUP.SEQUENCE, LEVEL.WARN),
    mbz = item("mbz", "Bits that must be zero are set", GROUP.PROTOCOL, LEVEL.WARN),
    malformed = item("malformed", "Malformed batch", GROUP.MALFORMED, LEVEL.ERROR),
    opcode = item("opcode", "Unknown opcode", GROUP.PROTOCOL, LEVEL.WARN),
    record = item("record", "Record out of bounds", GROUP.PROTOCOL, LEVEL.WARN),
    ext = item("ext", "msgpack extension, which the wire does not use", GROUP.PROTOCOL, LEVEL.WARN),
    cut = item("cut", "Cut short when it was captured", GROUP.UNDECODED, LEVEL.NOTE),
    bounded = item("bounded", "Not everything is shown", GROUP.UNDECODED, LEVEL.NOTE),
    internal = item("internal", "The dissector failed", GROUP.DEBUG, LEVEL.ERROR),
  }
  --- Expert items in one message; a hostile one could ask for a hundred thousand.
  local MAX_EXPERTS = 256

  --- Adds an expert item to a tree item, or to the batch's where that one is not shown.
  function rw.expert(m, tree, name, text)
    -- A packet that was never sent is not checked.
    if m.unjudged then return end
    m.experts = m.experts + 1
    if m.experts > MAX_EXPERTS then return end
    (tree or m.root):add_proto_expert_info(rw.experts[name], text)
  end

  -- The field requested last. It is likely to be requested again.
  local wanted = 1

  --- Returns whether a batch needs a tree: the tree is shown, or a filter, a column or a colouring
  --- rule names a field of ringwire. Building a tree costs several times as much as the dissection,
  --- and a file is mostly loaded for its Info column.
  function rw.wants_detail(root)
    if root.visible then return true end
    if root:referenced(all[wanted]) then return true end
    for i = 1, #all do
      if root:referenced(all[i]) then
        wanted = i
        return true
      end
    end
    return false
  end

  --- Returns `tree` while the message has room for another item of a level, else nil. Items that
  --- are not shown are still followed. Returns false where there is room but no tree is needed
  --- (`rw.wants_detail`). Levels are "transactions", "records", "entries", each with its own room,
  --- so that a ring full of descriptors does not hide the doorbell behind it.
  function rw.room(m, tree, level)
    if tree == nil then return nil end
    local shown = m.shown[level] or 0
    if shown < rw.prefs.max_items then
      m.shown[level] = shown + 1
      return m.detail and tree
    end
    m.hidden[level] = (m.hidden[level] or 0) + 1
    return nil
  end

  --- "3583 more entries, 2 more records" for what was not shown; nil when all was.
  function rw.hidden(m)
    local words = {}
    for _, level in ipairs({ "transactions", "records", "entries" }) do
      local n = m.hidden[level]
      if n then words[#words + 1] = rw.dec(n) .. " more " .. level end
    end
    return #words > 0 and table.concat(words, ", ") or nil
  end

  --- "0x1f". Works on halves: some builds format only 32 bits as hexadecimal.
  function rw.hex(n)
    local high = math.floor(n / 4294967296)
    if high == 0 then return string.format("0x%x", n) end
    return string.format("0x%x%08x", high, n - high * 4294967296)
  end

  --- Decimal digits, in every version of Lua and whatever the number's subtype.
  function rw.dec(n) return string.format("%.0f", n) end

  --- Bit `n` of a number, 0 or 1.
  function rw.bit(value, n) return math.floor(value / 2 ^ n) % 2 end

  --- `width` bits from bit `shift`.
  function rw.bits(value, shift, width) return math.floor(value / 2 ^ shift) % 2 ^ width end

  --- The name of a number; one without is shown as such: "?77".
  function rw.name_of(names, value) return names[value] or ("?" .. rw.dec(value)) end

  --- Names of the set bits, joined: "READY|RESET_IN_PROGRESS"; "0" when none is. `masks` is a
  --- list of { bit number, name }.
  function rw.names_of(masks, value)
    local found = {}
    for _, entry in ipairs(masks) do
      if rw.bit(value, entry[1]) == 1 then
        found[#found + 1] = entry[2]
        value = value - 2 ^ entry[1]
      end
    end
    if value ~= 0 then found[#found + 1] = rw.hex(value) end
    return #found == 0 and "0" or table.concat(found, "|")
  end

  --- The words that are not empty, joined by spaces.
  function rw.line(...)
    local words = {}
    for i = 1, select("#", ...) do
      local word = select(i, ...)
      if word and word ~= "" then words[#words + 1] = word end
    end
    return table.concat(words, " ")
  end

  --- Text up to the first zero byte, of at most `length` bytes; bytes that are not ASCII as "?".
  function rw.c_string(m, at, length)
    length = math.min(length, m.limit - at)
    if length <= 0 then return "" end
    local text = m.tvb:raw(at, length):match("^[^%z]*")
    return (text:gsub("[^\32-\126]", "?"))
  end

  local Layout = {}
  Layout.__index = Layout

  --- `fields` is a list of { name, offset, type, mask =, names =, hex =, as =, say = }; `as` is the
  --- filter's name where it is not prefix and name. `say` makes the word of a number, also of 0;
  --- false: the field is in no words. Types: u8 to u64, i16, bool (of `bytes` bytes, with a mask),
  --- mac, and bytes or text with `length`.
  function rw.layout(prefix, fields)
    local self = setmetatable({ list = {}, by_name = {} }, Layout)
    for _, spec in ipairs(fields) do
      local name, offset, kind = spec[1], spec[2], spec[3]
      local f = { name = name, offset = offset, kind = kind, mask = spec.mask, names = spec.names, say = spec.say }
      f.bytes = NUMBER[kind] and NUMBER[kind][2] or spec.bytes or spec.length or (kind == "mac" and 6) or 1
      f.read = rw[kind] or kind == "bool" and rw["u" .. f.bytes * 8] or nil
      if spec.mask then
        local low = 1
        while spec.mask % (low * 2) == 0 do low = low * 2 end
        f.low, f.span = low, math.floor(spec.mask / low) + 1
      end
      local made = kind == "text" and "string" or kind
      f.field = rw.field(spec.as or (prefix .. "." .. name), made, {
        mask = spec.mask, names = spec.names, hex = spec.hex or kind == "u48",
        bits = kind == "bool" and f.bytes * 8 or nil, label = spec.label or label(name),
      })
      self.list[#self.list + 1] = f
      self.by_name[name] = f
    end
    return self
  end

  --- Adds the fields that lie before `stop` (by default: in the captured bytes).
  function Layout:add(m, tree, at, stop)
    if not tree then return end
    stop = math.min(stop or m.limit, m.limit)
    local visible = m.visible
    for _, f in ipairs(self.list) do
      local from = at + f.offset
      -- In a tree that is not shown only what a filter names is of use.
      if from + f.bytes <= stop and (visible or tree:referenced(f.field)) then
        local range = m.tvb(from, f.bytes)
        if f.kind == "text" then tree:add(f.field, range, rw.c_string(m, from, f.bytes))
        elseif f.kind == "u48" then tree:add(f.field, range, range:le_uint64())
        elseif f.kind == "mac" or f.kind == "bytes" then tree:add(f.field, range)
        else tree:add_le(f.field, range) end
      end
    end
  end

  --- The number of a field; a bool is 0 or 1. Nil outside the captured bytes.
  function Layout:get(m, at, name)
    local f = self.by_name[name]
    local value = f.read(m, at + f.offset)
    if value and f.mask then return math.floor(value / f.low) % f.span end
    return value
  end

  --- The numbers of all fields by name, added to `into`.
  function Layout:values(m, at, into)
    into = into or {}
    for _, f in ipairs(self.list) do into[f.name] = self:get(m, at, f.name) end
    return into
  end

  --- The fields that are not zero, as the tracer says them: "enabledGroups=31 status=OKAY".
  function Layout:words(m, at)
    local words = {}
    for _, f in ipairs(self.list) do
      local value = f.read and f.say ~= false and self:get(m, at, f.name)
      if value and (f.say or value ~= 0) then
        local name = f.name:gsub("_(%w)", function(c) return c:upper() end)
        local shown = f.say and f.say(value) or f.kind == "bool" and "true" or f.names and rw.name_of(f.names, value)
          or value > 0xffff and rw.hex(value) or rw.dec(value)
        words[#words + 1] = name .. "=" .. shown
      end
    end
    return table.concat(words, " ")
  end

  --- What a descriptor, slot or entry hangs under.
  rw.entry_field = rw.field("ringwire.entry", "none")

  --- Adds an item for a structure of `bytes` bytes: its words, and the fields of `layout`, if there
  --- is one. Returns the item; nil without a tree.
  function rw.entry(m, tree, at, bytes, words, layout)
    if not tree then return nil end
    local item = tree:add(rw.entry_field, m.tvb(at, bytes))
    item:set_text(words)
    if layout then layout:add(m, item, at, at + bytes) end
    return item
  end
end
