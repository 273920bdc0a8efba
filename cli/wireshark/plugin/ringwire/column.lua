-- Columns: one binary string of data, one of records that cut it into pieces.
--
--   0              8          12      14     16
--   | address u64  | length   | type  | space |     little-endian
--
-- Words of a column are those of the project's tracer: control traffic record by record, of what
-- moves frames the first of a run.
return function(rw)
  local ena, xen, frames = rw.ena, rw.xen, rw.frames
  local RECORD = 16
  local MAX_TOLD = 16

  local TYPE = rw.RECORD_TYPES
  local ENTRY = { [16] = 64, [17] = 64, [18] = 64, [19] = 16, [20] = 8, [21] = 16, [22] = 16,
    [33] = 12, [34] = 12, [35] = 8, [36] = 8, [37] = 16, [38] = 16 }
  local CONTROL = { [16] = ena.admin_command, [17] = ena.admin_completion, [18] = ena.event }

  local record_fields = rw.layout("ringwire.record", {
    { "address", 0, "u64", hex = true }, { "length", 8, "u32" }, { "type", 12, "u16", names = TYPE },
    { "space", 14, "u16" } })
  local reference = rw.field("ringwire.record.reference", "u32")
  local data_field = rw.field("ringwire.record.data", "bytes")
  local record_item = rw.field("ringwire.record", "none")

  --- "0x1000", or reference and offset of a grant: "gref 9+0x40".
  local function place(space, address)
    if space ~= 1 then return rw.hex(address) end
    return string.format("gref %.0f+%s", math.floor(address / 4096), rw.hex(address % 4096))
  end
  rw.place = place

  --- "ENA_RX_CDESC x 12 at 0x5000", "FRAME 1514 bytes at 0x10002000"
  local function bulk(op, kind, address, space, length)
    local entry = ENTRY[kind]
    local name = TYPE[kind] or "type " .. rw.dec(kind)
    local what = entry and length % entry == 0 and "x " .. rw.dec(length / entry) or rw.dec(length) .. " bytes"
    local where = op == 22 and string.format("BAR%.0f+%s", space, rw.hex(address)) or place(space, address)
    return name .. " " .. what .. " at " .. where
  end

  local function control_feature(c, address) return c.control[address] end

  -- One record's bytes, by type. Returns a list of words for control traffic, nil for the rest.
  local function contents(m, tree, op, kind, space, address, at, length)
    local stop = math.min(at + length, m.limit)
    if op == 22 and kind == 23 then
      local shape = rw.ask(m, ena.llq_shape)
      for from = at, stop - 1, shape.entry do
        ena.llq_entry(m, rw.room(m, tree, "entries"), from, math.min(shape.entry, stop - from), address + from - at, shape)
      end
      return nil
    end
    if op == 22 then
      if space == 0 and length == 4 and at + 4 <= m.limit then return { ena.register_write(m, tree, at, address) } end
      if tree and stop > at then tree:add(data_field, m.tvb(at, stop - at)) end
      return nil
    end
    local describe = CONTROL[kind]
    if describe then
      local words = {}
      for from = at, stop - 1, 64 do
        local size = math.min(64, stop - from)
        local entry = rw.entry(m, rw.room(m, tree, "entries"), from, size, "")
        local said = describe(m, entry, from, size, address + from - at)
        if entry then entry:set_text(said) end
        words[#words + 1] = TYPE[kind] .. " " .. place(space, address + from - at) .. " " .. said
      end
      return words
    end
    if kind == 3 then return { ena.mmio_response(m, tree, at, stop - at, address) } end
    local io, slot = ena.IO[kind], xen.SLOT[kind]
    if io then
      local size = ENTRY[kind]
      for from = at, stop - size, size do io(m, rw.room(m, tree, "entries"), from, address + from - at) end
      return nil
    end
    if slot then
      local size, words = ENTRY[kind], {}
      for from = at, stop - size, size do
        local where = address + from - at
        local said = slot(m, rw.room(m, tree, "entries"), from, space, where)
        if kind >= 37 then words[#words + 1] = TYPE[kind] .. " " .. place(space, where) .. " " .. said end
      end
      return kind >= 37 and words or nil
    end
    if kind == 32 or kind == 39 then
      local said = xen.ring_header(m, tree, at, stop - at, space, address, kind == 39)
      if tree then tree:append_text(": " .. said) end
      return kind == 32 and { TYPE[kind] .. " " .. place(space, address) .. " " .. said } or nil
    end
    if kind == 1 then
      m.column_tree = tree
      frames.note(m, space, address, at, length)
      return nil
    end
    if kind == 24 then
      ena.control_buffer(m, tree, at, length, rw.ask(m, control_feature, address))
    elseif kind == 25 then ena.host_info(m, tree, at, length)
    elseif tree and stop > at then tree:add(data_field, m.tvb(at, stop - at)) end
    return nil
  end

  --- Shows a column. Returns its words: "2 records: AQ_DB = 0x1; ...".
  function rw.column(m, tree, op, data_at, data_length, records_at, records_length)
    local count = math.floor(records_length / RECORD)
    if records_length % RECORD ~= 0 then
      rw.expert(m, tree, "record", rw.dec(records_length % RECORD) .. " bytes behind the last whole record")
    end
    local at, stop = data_at, data_at + data_length
    local told, last_run, left = {}, nil, 0
    local full = false
    for i = 0, count - 1 do
      local rec = records_at + i * RECORD
      local address, length = rw.u64(m, rec), rw.u32(m, rec + 8)
      local kind, space = rw.u16(m, rec + 12), rw.u16(m, rec + 14)
      if length > stop - at then
        rw.expert(m, tree, "record", string.format("record %d has %.0f bytes, %.0f are left", i, length, stop - at))
        if not full then told[#told + 1] = "! records beyond the data" end
        break
      end
      if length == 0 then rw.expert(m, tree, "record", string.format("record %d is empty", i)) end
      local item = rw.room(m, tree, "records")
      if item then
        item = item:add(record_item, m.tvb(rec, RECORD))
        item:set_text(bulk(op, kind, address, space, length))
        record_fields:add(m, item, rec, rec + RECORD)
        if op ~= 22 and space == 1 then
          item:add(reference, m.tvb(rec, 8), math.floor(address / 4096) % 4294967296):set_generated()
        end
      end
      local words = length > 0 and contents(m, item, op, kind, space, address, at, length) or nil
      at = at + length
      if full then left = left + 1
      elseif words == nil then
        local run = op * 65536 + kind
        if run == last_run then left = left + 1
        else
          last_run = run
          told[#told + 1] = bulk(op, kind, address, space, length)
        end
      else
        last_run = nil
        for _, word in ipairs(words) do told[#told + 1] = word end
      end
      if #told >= MAX_TOLD then full = true end
    end
    local more = left > 0 and "; " .. rw.dec(left) .. " more" or ""
    return string.format("%d %s: %s%s", count, count == 1 and "record" or "records", table.concat(told, "; "), more)
  end
end
