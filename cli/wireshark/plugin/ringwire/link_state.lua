-- The state record: the state of a link at the start of a capture that begins late.
-- Layouts: shared/wire/link-state.ts.
--
--   0      2          4        8                     8 + length
--   | kind | reserved | length | records of the kind | the next entry ...
--
-- A record of a queue sets the position of its ring. An entry may have been written that no
-- doorbell has announced yet, so the next entry of a driver's ring sets the slot.
return function(rw)
  local ena, xen = rw.ena, rw.xen
  local S = "ringwire.state"
  local RING = { [0] = "AQ", "ACQ", "AENQ", "CQ", "TX_SQ", "RX_SQ" }
  local XEN_RING = { [0] = "TX", "RX", "CTRL" }
  local kind_field, data_field = rw.field(S .. ".kind", "u16"), rw.field(S .. ".bytes", "bytes")
  local entry_item = rw.field(S .. ".entry", "none")
  local function layout(name, fields) return rw.layout(S .. "." .. name, fields) end
  local window = layout("window", { { "address", 0, "u64", hex = true }, { "length", 8, "u32" } })
  local memory = layout("memory", { { "address", 0, "u64", hex = true } })
  local llq = layout("llq", { { "entry_bytes", 0, "u16" }, { "descs_before_header", 2, "u16" } })
  local ena_ring = layout("ena_ring", {
    { "ring", 0, "u8", names = RING, say = false }, { "in_device", 1, "bool", bytes = 1, mask = 1 },
    { "requests_told", 1, "bool", bytes = 1, mask = 2 }, { "index", 2, "u16", say = false }, { "cq_index", 4, "u16" },
    { "vector", 6, "u16" }, { "address", 8, "u64", hex = true }, { "depth", 16, "u32" },
    { "entry_bytes", 20, "u16" }, { "head", 22, "u16" }, { "register", 24, "u32", hex = true },
    { "numa_register", 28, "u32", hex = true } })
  local ena_request = layout("ena_request", { { "ring", 0, "u8", names = RING, say = false }, { "index", 2, "u16", say = false },
    { "req_id", 4, "u16" }, { "address", 6, "u48" } })
  local xen_ring = layout("xen_ring", { { "ring", 0, "u8", names = XEN_RING, say = false }, { "queue", 2, "u16", say = false },
    { "port", 4, "u32" }, { "reference", 8, "u32" }, { "address", 16, "u64", hex = true } })

  -- Questions: see state.lua. ------------------------------------------------------------------

  local function llq_chosen(c, entry, before)
    c.llq = { entry = math.max(entry, 16), before = before }
  end

  local function ring_stands(c, v)
    local kind, depth, entry = v.ring, math.max(v.depth, 1), math.max(v.entry_bytes, 1)
    local ring
    if kind >= 4 then
      ring = ena.add_sq(c, kind == 4 and "tx" or "rx", v.index, v.cq_index, v.address, depth, v.in_device == 1, v.register)
      ring.entry = entry
      -- Ids that the record does not name may still be outstanding.
      if v.requests_told == 0 then ring.outstanding = nil end
    elseif kind == 3 then ring = ena.add_cq(c, v.index, v.address, depth, entry, v.register, v.numa_register)
    else
      ring = rw.new_ring(v.address, depth, entry)
      c[RING[kind]:lower()], c.admin_seen = ring, true
    end
    ring.next, ring.phase = v.head % depth, 1 - math.floor(v.head / depth) % 2
    ring.believe = kind == 0 or kind >= 4
  end

  local function request_stands(c, v)
    local queue = c.queues[string.format("sq %s %.0f", v.ring == 4 and "tx" or "rx", v.index)]
    if queue == nil or queue.outstanding == nil then return end
    queue.seen = true
    queue.outstanding[v.req_id] = v.ring == 4 or v.address
  end

  -- Records. -----------------------------------------------------------------------------------

  -- Shows a record. Returns its words, its numbers by name, and its item. With `rings` the words
  -- begin with the ring: "AQ 0".
  local function fields_of(made, m, tree, at, bytes, rings)
    local words, v = made:words(m, at), made:values(m, at)
    if rings then words = rw.line(rw.name_of(rings, v.ring), rw.dec(v.index or v.queue), words) end
    return words, v, rw.entry(m, tree, at, bytes, words, made)
  end

  -- By kind: name, bytes of a record (nil: all of the entry), and what shows one.
  local KIND = {
    [1] = { "WINDOW", 12, function(m, tree, at, bytes) return (fields_of(window, m, tree, at, bytes)) end },
    [2] = { "MEMORY", nil, function(m, tree, at, bytes)
      local words, _, item = fields_of(memory, m, tree, at, bytes)
      if item and bytes > 8 then item:add(data_field, m.tvb(at + 8, bytes - 8)) end
      return words .. " bytes=" .. rw.dec(bytes - 8)
    end },
    [3] = { "GRANT_V1", 12, function(m, tree, at) return xen.grant(m, tree, at, 1) end },
    [4] = { "GRANT_V2", 20, function(m, tree, at) return xen.grant(m, tree, at, 2) end },
    [5] = { "GRANT_USE", 8, xen.grant_use },
    [16] = { "ENA_LLQ", 4, function(m, tree, at, bytes)
      local words, v = fields_of(llq, m, tree, at, bytes)
      rw.ask(m, llq_chosen, v.entry_bytes, v.descs_before_header)
      return words
    end },
    [17] = { "ENA_RING", 32, function(m, tree, at, bytes)
      local words, v = fields_of(ena_ring, m, tree, at, bytes, RING)
      if RING[v.ring] then rw.ask(m, ring_stands, v) end
      return words
    end },
    [18] = { "ENA_REQUEST", 12, function(m, tree, at, bytes)
      local words, v = fields_of(ena_request, m, tree, at, bytes, RING)
      rw.ask(m, request_stands, v)
      return words
    end },
    [19] = { "ENA_COMMAND", 64, function(m, tree, at, bytes)
      local item = rw.entry(m, tree, at, bytes, "")
      local words = ena.admin_command(m, item, at, bytes, -1)
      if item then item:set_text(words) end
      return words
    end },
    [32] = { "XEN_RING", 24 + 4096, function(m, tree, at, bytes)
      local words, v, item = fields_of(xen_ring, m, tree, at, bytes, XEN_RING)
      return rw.line(words, xen.ring_state(m, item, at + 24, v.address, v.ring, v.queue))
    end },
  }

  --- Shows the entries of a part of a record, and takes note of them. Adds their words. Raises
  --- malformed errors.
  function rw.link_state(m, words)
    local at = m.start
    while at < m.limit do
      local kind, length = rw.u16(m, at), rw.u32(m, at + 4)
      if length == nil or length > m.limit - at - 8 then
        error({ malformed = "state: an entry ends behind the record", at = at, cut = m.cut }, 0)
      end
      local known = KIND[kind]
      local tree = rw.room(m, m.root, "transactions")
      if tree then
        tree = tree:add(entry_item, m.tvb(at, 8 + length))
        tree:add_le(kind_field, m.tvb(at, 2))
      end
      m.tree = tree
      local said = "state kind " .. rw.dec(kind)
      if known == nil then rw.expert(m, tree, "record", said .. " is unknown")
      else
        local bytes = known[2] or math.max(length, 8)
        said = "state " .. known[1] .. " " .. rw.packed(m, tree, at + 8, length, bytes,
          function(mm, item, from) return known[3](mm, item, from, bytes) end)
      end
      if tree then tree:set_text(said) end
      if #words < 16 then words[#words + 1] = said else m.untold = (m.untold or 0) + 1 end
      at = at + 8 + length
    end
    m.tree = nil
  end
end
