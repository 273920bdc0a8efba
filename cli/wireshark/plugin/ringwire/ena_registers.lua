-- Registers and doorbells by name. Layouts: shared/ena/registers.ts, io.ts.
return function(rw)
  local ena = rw.ena
  local P = "ringwire.ena.reg"
  local offset_field = rw.field(P .. ".offset", "u32", { hex = true })
  local name_field = rw.field(P .. ".name", "string")
  local value_field = rw.field(P .. ".value", "u32", { hex = true })
  local req_id_field = rw.field(P .. ".req_id", "u16")

  local caps = { { "depth", 0, "u32", mask = 0xffff }, { "entry_bytes", 0, "u32", mask = 0xffff0000 } }
  local function reg(name, fields) return rw.layout(P .. "." .. name, fields) end
  local queue_caps = reg("queue_caps", caps)
  local VALUE = {
    [0x00] = reg("version", { { "minor", 0, "u32", mask = 0xff }, { "major", 0, "u32", mask = 0xff00 } }),
    [0x04] = reg("controller_version", { { "subminor", 0, "u32", mask = 0xff },
      { "minor", 0, "u32", mask = 0xff00 }, { "major", 0, "u32", mask = 0xff0000 },
      { "impl_id", 0, "u32", mask = 0xff000000 } }),
    [0x08] = reg("caps", { { "contiguous_queues", 0, "bool", bytes = 4, mask = 1 },
      { "reset_timeout", 0, "u32", mask = 0x3e }, { "dma_width_bits", 0, "u32", mask = 0xff00 },
      { "admin_timeout", 0, "u32", mask = 0xf0000 } }),
    [0x18] = queue_caps, [0x28] = queue_caps, [0x34] = queue_caps,
    [0x5c] = reg("mmio_read", { { "req_id", 0, "u32", mask = 0xffff },
      { "register_offset", 0, "u32", mask = 0xffff0000, hex = true, names = ena.REGISTER } }),
    [0x68] = reg("rss_ind_entry_update", { { "index", 0, "u32", mask = 0xffff },
      { "cq_idx", 0, "u32", mask = 0xffff0000 } }),
  }
  local function flags(prefix, list)
    local fields = {}
    for i, entry in ipairs(list) do
      fields[i] = { entry[2]:lower(), 0, "bool", bytes = 4, mask = 2 ^ entry[1] }
    end
    return reg(prefix, fields)
  end
  VALUE[0x54] = flags("dev_ctl", ena.DEV_CTL)
  VALUE[0x58] = flags("dev_sts", ena.DEV_STS)
  local reason_field = rw.field(P .. ".dev_ctl.reset_reason", "u8", { names = ena.RESET_REASON })
  local unmask = reg("unmask", { { "rx_delay", 0, "u32", mask = 0x7fff }, { "tx_delay", 0, "u32", mask = 0x3fff8000 },
    { "unmask", 0, "bool", bytes = 4, mask = 0x40000000 },
    { "no_moderation_update", 0, "bool", bytes = 4, mask = 0x80000000 } })
  local numa = reg("numa_node", { { "node", 0, "u32", mask = 0xff },
    { "enabled", 0, "bool", bytes = 4, mask = 0x80000000 } })

  local function reset_reason(value) return rw.bits(value, 28, 4) + rw.bits(value, 24, 4) * 16 end

  local function name_of(offset) return ena.REGISTER[offset] or rw.hex(offset) end

  --- "DEV_CTL = DEV_RESET reason=KEEP_ALIVE_TO"; `place` names what the device placed itself.
  local function write_words(offset, value, place)
    if ena.REGISTER[offset] == nil then return (place or rw.hex(offset)) .. " = " .. rw.hex(value) end
    local name = ena.REGISTER[offset]
    if offset == 0x54 then
      return name .. " = " .. rw.names_of(ena.DEV_CTL, value % 0x1000000)
        .. " reason=" .. rw.name_of(ena.RESET_REASON, reset_reason(value))
    end
    if offset == 0x58 then return name .. " = " .. rw.names_of(ena.DEV_STS, value) end
    if offset == 0x5c then
      return string.format("%s = %s seq=%.0f", name, name_of(math.floor(value / 65536)), value % 65536)
    end
    return name .. " = " .. rw.hex(value)
  end

  -- Questions: see state.lua. ------------------------------------------------------------------

  local RINGS = { [0x10] = "aq", [0x14] = "aq", [0x18] = "aq", [0x20] = "acq", [0x24] = "acq", [0x28] = "acq",
    [0x34] = "aenq", [0x38] = "aenq", [0x3c] = "aenq" }
  local BASE = { aq = { 0x10, 0x14, 0x18 }, acq = { 0x20, 0x24, 0x28 }, aenq = { 0x38, 0x3c, 0x34 } }

  local function register_written(c, offset, value)
    local ring = RINGS[offset]
    if ring then
      c.registers[offset] = value
      local r = c.registers
      local where = BASE[ring]
      local lo, hi, caps_value = r[where[1]], r[where[2]], r[where[3]]
      if lo and hi and caps_value then
        -- Written anew at each bring-up, so the ring starts from its first slot.
        c[ring] = rw.new_ring(hi * 4294967296 + lo, caps_value % 65536, math.max(math.floor(caps_value / 65536), 1))
        if ring == "aq" then c.admin_seen = true end
      end
    elseif offset == 0x54 and value % 2 == 1 then
      c.queues, c.commands, c.control, c.registers, c.last_queue = {}, {}, {}, {}, nil
      c.aq, c.acq, c.aenq, c.admin_seen = nil, nil, nil, nil
      c.kept, c.open = {}, {}
    end
    return c.places[offset]
  end

  local function place_of(c, offset) return c.places[offset] end

  --- The name of a register of BAR 0 as the connection knows it.
  function ena.register_name(m, offset)
    return rw.ask(m, place_of, offset) or name_of(offset)
  end

  --- The fields of a register's value.
  local function add_value(m, tree, at, offset, value, place)
    if not tree then return end
    tree:add_le(value_field, m.tvb(at, 4))
    local layout = VALUE[offset]
    if ena.REGISTER[offset] == nil and place then
      if place:match("^unmask") then layout = unmask elseif place:match("^numa") then layout = numa end
    end
    if layout then layout:add(m, tree, at, at + 4) end
    if offset == 0x54 then tree:add(reason_field, m.tvb(at, 4), reset_reason(value)) end
  end
  ena.register_value = add_value

  --- A write of four bytes to BAR 0. Returns its words.
  function ena.register_write(m, tree, at, offset)
    local value = rw.u32(m, at)
    local place = rw.ask(m, register_written, offset, value)
    if tree then
      tree:add(offset_field, m.tvb(at, 4), offset):set_generated()
      tree:add(name_field, m.tvb(at, 4), ena.REGISTER[offset] or place or rw.hex(offset)):set_generated()
      add_value(m, tree, at, offset, value, place)
    end
    return write_words(offset, value, place)
  end

  --- What the device answers to a readless register read: offset and value, then the request id
  --- that makes them valid; or all in one piece.
  function ena.mmio_response(m, tree, at, length, address)
    local function answer(from)
      local offset, value = rw.u16(m, from), rw.u32(m, from + 2)
      if offset == nil or value == nil then return "MMIO_RESPONSE" end
      if tree then
        tree:add_le(offset_field, m.tvb(from, 2))
        tree:add(name_field, m.tvb(from, 2), name_of(offset)):set_generated()
        add_value(m, tree, from + 2, offset, value)
      end
      return name_of(offset) .. " reads " .. rw.hex(value)
    end
    local function sequence()
      if tree and at + 2 <= m.limit then tree:add_le(req_id_field, m.tvb(at, 2)) end
      return "seq=" .. rw.dec(rw.u16(m, at) or 0)
    end
    if length == 8 then
      local said = sequence()
      return answer(at + 2) .. " " .. said
    end
    if length == 6 then return answer(at) end
    if length == 2 then return sequence() end
    return string.format("MMIO_RESPONSE %.0f bytes at %s", length, rw.hex(address))
  end
end
