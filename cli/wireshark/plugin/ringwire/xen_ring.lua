-- Slots of the Xen network rings and their shared indexes.
-- Source: xen: xen/include/public/io/netif.h, ring.h.
--
-- Ring pages are known by their frame: the frontend writes them by bus address, the backend
-- through the grant, and grants name frames. A slot behind one with extra_info is an extra info
-- slot; which one that is depends on what came before.
return function(rw)
  rw.xen = rw.xen or {}
  local xen, frames = rw.xen, rw.frames
  local T, R, X, C = "ringwire.xen.tx", "ringwire.xen.rx", "ringwire.xen.extra", "ringwire.xen.ctrl"
  local PAGE, HEADER = 4096, 64
  local SLOTS = 256

  local STATUS = { [0] = "OKAY", [-1] = "ERROR", [-2] = "DROPPED", [1] = "NULL" }
  local EXTRA = { [1] = "GSO", [2] = "MCAST_ADD", [3] = "MCAST_DEL", [4] = "HASH" }
  local GSO = { [1] = "TCPV4", [2] = "TCPV6" }
  local CTRL = { [1] = "GET_HASH_FLAGS", [2] = "SET_HASH_FLAGS", [3] = "SET_HASH_KEY", [4] = "GET_HASH_MAPPING_SIZE",
    [5] = "SET_HASH_MAPPING_SIZE", [6] = "SET_HASH_MAPPING", [7] = "SET_HASH_ALGORITHM",
    [8] = "GET_GREF_MAPPING_SIZE", [9] = "ADD_GREF_MAPPING", [10] = "DEL_GREF_MAPPING" }
  local CTRL_STATUS = { [0] = "SUCCESS", [1] = "NOT_SUPPORTED", [2] = "INVALID_PARAMETER", [3] = "BUFFER_OVERFLOW" }
  local function bit(name, offset, n) return { name, offset, "bool", bytes = 2, mask = 2 ^ n } end

  local tx_request = rw.layout(T, {
    { "gref", 0, "u32" }, { "offset", 4, "u16" }, { "flags", 6, "u16", hex = true },
    bit("flags.csum_blank", 6, 0), bit("flags.data_validated", 6, 1), bit("flags.more_data", 6, 2),
    bit("flags.extra_info", 6, 3), { "id", 8, "u16" }, { "size", 10, "u16" } })
  local tx_response = rw.layout(T, { { "id", 0, "u16" }, { "status", 2, "i16", names = STATUS } })
  local rx_request = rw.layout(R, { { "id", 0, "u16" }, { "gref", 4, "u32" } })
  local rx_response = rw.layout(R, {
    { "id", 0, "u16" }, { "offset", 2, "u16" }, { "flags", 4, "u16", hex = true },
    bit("flags.data_validated", 4, 0), bit("flags.csum_blank", 4, 1), bit("flags.more_data", 4, 2),
    bit("flags.extra_info", 4, 3), bit("flags.gso_prefix", 4, 4), { "status", 6, "i16" } })
  local extra = rw.layout(X, { { "type", 0, "u8", names = EXTRA },
    { "more", 1, "bool", bytes = 1, mask = 1 } })
  local EXTRA_BODY = {
    [1] = rw.layout(X, { { "gso_size", 2, "u16" }, { "gso_type", 4, "u8", names = GSO }, { "gso_features", 6, "u16", hex = true } }),
    [2] = rw.layout(X, { { "mcast_addr", 2, "mac" } }),
    [3] = rw.layout(X, { { "mcast_addr", 2, "mac" } }),
    [4] = rw.layout(X, { { "hash_type", 2, "u8" }, { "hash_algorithm", 3, "u8" }, { "hash_value", 4, "u32", hex = true } }),
  }
  local ctrl_request = rw.layout(C, { { "id", 0, "u16" }, { "type", 2, "u16", names = CTRL },
    { "data0", 4, "u32" }, { "data1", 8, "u32" }, { "data2", 12, "u32" } })
  local ctrl_response = rw.layout(C, { { "id", 0, "u16" }, { "type", 2, "u16", names = CTRL },
    { "status", 4, "u32", names = CTRL_STATUS }, { "data", 8, "u32" } })
  local ring_field = rw.field("ringwire.xen.ring", "string")
  local slot_field = rw.field("ringwire.xen.slot", "u32")
  local INDEX = { [0] = "req_prod", [4] = "req_event", [8] = "rsp_prod", [12] = "rsp_event" }
  local INDEX_FIELD = {}
  for offset, name in pairs(INDEX) do INDEX_FIELD[offset] = rw.field("ringwire.xen.ring." .. name, "u32") end

  -- Questions: see state.lua. ------------------------------------------------------------------

  local function frame_of(c, space, address)
    local page = math.floor(address / PAGE)
    return space == 0 and page or c.grants[page]
  end

  -- Returns the ring on a page. Its state is derived from the writes to it.
  local function ring_at(c, space, address)
    local frame = frame_of(c, space, address)
    if frame == nil then return nil end
    local ring = c.rings[frame]
    if ring == nil then
      -- Earlier requests are unknown, so there are no ids until the page is created again.
      ring = { slots = {}, grefs = {}, extra = {} }
      rw.remember(c, "rings", frame, ring)
    end
    ring.name = c.ring_refs[frame] or ring.name
    return ring
  end

  -- Returns whether a slot continues a chain of extra slots. Requests and responses each have one.
  local function is_extra(ring, side, slot, announces)
    local next = ring.extra[side]
    ring.extra[side] = nil
    local found = next ~= nil and next == slot
    if not found and announces then ring.extra[side] = (slot + 1) % SLOTS end
    return found
  end
  local function extra_goes_on(ring, side, slot, more)
    if more then ring.extra[side] = (slot + 1) % SLOTS end
  end

  local function requested(c, space, address, slot, id, announces, more, gref)
    local ring = ring_at(c, space, address)
    if ring == nil then return nil end
    if is_extra(ring, "request", slot, announces) then
      extra_goes_on(ring, "request", slot, more)
      ring.slots[slot] = nil
      return { name = ring.name, extra = true }
    end
    local twice = ring.ids and ring.ids[id] ~= nil
    if ring.ids then ring.ids[id] = slot end
    ring.slots[slot] = id
    ring.grefs[slot] = gref
    ring.seen = true
    return { name = ring.name, twice = twice }
  end

  local function answered(c, space, address, slot, id, announces, more, silent)
    local ring = ring_at(c, space, address)
    if ring == nil then return nil end
    local gref = ring.grefs[slot]
    -- An extra slot, or its answer, has no id of its own. It uses up the request of its slot.
    if is_extra(ring, "response", slot, announces) then
      extra_goes_on(ring, "response", slot, more)
      local spent = ring.slots[slot]
      if spent and ring.ids then ring.ids[spent] = nil end
      return { name = ring.name, extra = true }
    end
    local unknown = false
    if ring.ids and not silent then
      unknown = ring.seen and ring.ids[id] == nil
      ring.ids[id] = nil
    end
    return { name = ring.name, unknown = unknown, gref = gref }
  end

  local function page_made(c, space, address)
    local frame = frame_of(c, space, address)
    if frame then c.rings[frame] = { ids = {}, slots = {}, grefs = {}, extra = {}, name = c.ring_refs[frame] } end
    return c.ring_refs[frame or -1]
  end

  -- A ring of a state record, whose grants were told before.
  local function ring_told(c, frame, name)
    c.ring_refs[frame] = name
  end

  local function name_at(c, space, address)
    local frame = frame_of(c, space, address)
    return frame and c.ring_refs[frame]
  end

  -- Slots. ---------------------------------------------------------------------------------------

  local function slot_of(address, bytes) return math.floor((address % PAGE - HEADER) / bytes) % SLOTS end

  local function begin(m, tree, at, bytes, words, layout, slot, answer)
    local item = rw.entry(m, tree, at, bytes, words)
    if item == nil then return nil end
    item:add(slot_field, slot):set_generated()
    if answer and answer.name then item:add(ring_field, answer.name):set_generated() end
    layout:add(m, item, at, at + bytes)
    return item
  end

  local function add_extra(m, tree, at, bytes, answer, slot)
    local kind = extra:get(m, at, "type")
    local item = begin(m, tree, at, bytes, "extra info " .. rw.name_of(EXTRA, kind), extra, slot, answer)
    if EXTRA_BODY[kind] then EXTRA_BODY[kind]:add(m, item, at, at + 8) end
  end

  local function tell(m, item, answer, what, id)
    if answer == nil then return end
    if answer.twice then rw.expert(m, item, "twice", what .. " id " .. rw.dec(id) .. " is outstanding already") end
    if answer.unknown then
      rw.expert(m, item, "req_id", what .. " response to id " .. rw.dec(id) .. ", which is not outstanding")
    end
  end

  local SLOT = {}
  xen.SLOT = SLOT
  --- Bytes of a slot, by record type.
  xen.SLOT_BYTES = { [33] = 12, [34] = 12, [35] = 8, [36] = 8, [37] = 16, [38] = 16 }

  -- The first slot's size is the packet's: its own piece is what the others leave.
  local function finish_tx(m, item, slots)
    local first, others = slots[1], 0
    for i = 2, #slots do others = others + slots[i].size end
    local parts, whole = {}, first.size >= others
    for i, slot in ipairs(slots) do
      local size = i == 1 and first.size - others or slot.size
      whole = whole and frames.gather(m, parts, 1, slot.gref * PAGE + slot.offset, size)
    end
    if whole then frames.show(m, item or m.root, parts, "Frame sent, id " .. rw.dec(first.id)) end
  end

  SLOT[33] = function(m, tree, at, space, address)
    local slot, flags = slot_of(address, 12), rw.u16(m, at + 6)
    local id, gref = rw.u16(m, at + 8), rw.u32(m, at)
    local answer = rw.ask(m, requested, space, address, slot, id, rw.bit(flags, 3) == 1,
      rw.bit(rw.u8(m, at + 1), 0) == 1, gref)
    if answer and answer.extra then return add_extra(m, tree, at, 12, answer, slot) end
    local size = rw.u16(m, at + 10)
    local item = begin(m, tree, at, 12, string.format("tx request id=%.0f gref=%.0f offset=%.0f size=%.0f%s", id, gref,
      rw.u16(m, at + 4), size, rw.bit(flags, 2) == 1 and " more" or ""), tx_request, slot, answer)
    tell(m, item, answer, "tx", id)
    local key = "xen tx " .. rw.dec(math.floor(address / PAGE))
    local packets = frames.packets(m)
    local packet = packets[key] or { parts = {}, slots = {} }
    packets[key] = packet
    packet.slots[#packet.slots + 1] = { gref = gref, offset = rw.u16(m, at + 4), size = size, id = id }
    if rw.bit(flags, 2) == 0 then
      packets[key] = nil
      finish_tx(m, item, packet.slots)
    end
  end

  SLOT[34] = function(m, tree, at, space, address)
    local slot, id, status = slot_of(address, 12), rw.u16(m, at), rw.i16(m, at + 2)
    -- The answer to an extra slot has status NULL and no id.
    local answer = rw.ask(m, answered, space, address, slot, id, false, false, status == 1)
    local item = begin(m, tree, at, 12, string.format("tx response id=%.0f %s", id, rw.name_of(STATUS, status)), tx_response,
      slot, answer)
    tell(m, item, answer, "tx", id)
    if status == -1 or status == -2 then rw.expert(m, item, "status", "tx response: " .. STATUS[status]) end
  end

  SLOT[35] = function(m, tree, at, space, address)
    local slot, id, gref = slot_of(address, 8), rw.u16(m, at), rw.u32(m, at + 4)
    local answer = rw.ask(m, requested, space, address, slot, id, false, false, gref)
    local item = begin(m, tree, at, 8, string.format("rx request id=%.0f gref=%.0f", id, gref), rx_request, slot, answer)
    tell(m, item, answer, "rx", id)
  end

  SLOT[36] = function(m, tree, at, space, address)
    local slot, flags, id = slot_of(address, 8), rw.u16(m, at + 4), rw.u16(m, at)
    local answer = rw.ask(m, answered, space, address, slot, id, rw.bit(flags, 3) == 1,
      rw.bit(rw.u8(m, at + 1), 0) == 1, false)
    if answer and answer.extra then return add_extra(m, tree, at, 8, answer, slot) end
    local status, offset = rw.i16(m, at + 6), rw.u16(m, at + 2)
    local more = rw.bit(flags, 2) == 1
    local item = begin(m, tree, at, 8, string.format("rx response id=%.0f offset=%.0f status=%.0f%s", id, offset, status,
      more and " more" or ""), rx_response, slot, answer)
    tell(m, item, answer, "rx", id)
    if status < 0 then rw.expert(m, item, "status", "rx response: status " .. rw.dec(status)) end

    local key = "xen rx " .. rw.dec(math.floor(address / PAGE))
    local packets = frames.packets(m)
    local packet = packets[key] or { parts = {}, whole = true }
    packets[key] = packet
    local gref = answer and answer.gref
    local found = false
    if status > 0 and gref then found = frames.gather(m, packet.parts, 1, gref * PAGE + offset, status)
    elseif status > 0 then found = frames.gather_next(m, packet.parts, status) end
    packet.whole = packet.whole and found
    if not more then
      packets[key] = nil
      if packet.whole then frames.show(m, item or m.root, packet.parts, "Frame received, id " .. rw.dec(id)) end
    end
  end

  -- Slots of the control ring are described one by one, because they are few.
  SLOT[37] = function(m, tree, at, _, address)
    local words = string.format("ctrl %s id=%.0f data=%.0f,%.0f,%.0f", rw.name_of(CTRL, rw.u16(m, at + 2)), rw.u16(m, at),
      rw.u32(m, at + 4), rw.u32(m, at + 8), rw.u32(m, at + 12))
    begin(m, tree, at, 16, words, ctrl_request, slot_of(address, 16))
    return words
  end
  SLOT[38] = function(m, tree, at, _, address)
    local status = rw.u32(m, at + 4)
    local words = string.format("ctrl done %s id=%.0f %s data=%.0f", rw.name_of(CTRL, rw.u16(m, at + 2)), rw.u16(m, at),
      rw.name_of(CTRL_STATUS, status), rw.u32(m, at + 8))
    local item = begin(m, tree, at, 16, words, ctrl_response, slot_of(address, 16))
    if status ~= 0 then rw.expert(m, item, "status", words) end
    return words
  end

  --- Words of a ring's header; `whole` when the page is made. Returns "req_prod=5 rsp_event=3".
  function xen.ring_header(m, tree, at, length, space, address, whole)
    local name = rw.ask(m, whole and page_made or name_at, space, address)
    if tree and name then tree:add(ring_field, name):set_generated() end
    if length == 0 or (length % 4 ~= 0 and not whole) then return string.format("%.0f bytes, no indexes", length) end
    local words, offset = {}, address % PAGE
    for i = 0, math.min(math.floor(length / 4), 4) - 1 do
      local place = offset + i * 4
      local value = rw.u32(m, at + i * 4)
      if value == nil then break end
      words[#words + 1] = (INDEX[place] or "?" .. rw.dec(place)) .. "=" .. rw.dec(value)
      if INDEX[place] and tree then tree:add_le(INDEX_FIELD[place], m.tvb(at + i * 4, 4)) end
    end
    return table.concat(words, " ")
  end

  -- By the ring's kind in a state record: name, record type of a request, slots.
  local RING = { [0] = { "tx", 33, 256 }, { "rx", 35, 256 }, { "ctrl", 37, 128 } }

  --- A ring of a state record: its page, and the requests from rsp_prod to req_prod, which stand
  --- there until they are answered. Returns the words of the ring's header.
  function xen.ring_state(m, tree, at, address, kind, queue)
    local ring = RING[kind]
    if ring == nil then return nil end
    rw.ask(m, ring_told, math.floor(address / PAGE), string.format("%s ring of queue %.0f", ring[1], queue))
    local said = xen.ring_header(m, tree, at, PAGE, 0, address, true)
    local bytes, slots, from = xen.SLOT_BYTES[ring[2]], ring[3], rw.u32(m, at + 8)
    local count = (rw.u32(m, at) - from) % 2 ^ 32
    -- More requests than slots come from a hostile guest. Then no request is known.
    m.unjudged = true
    for i = 0, count <= slots and count - 1 or -1 do
      local offset = HEADER + (from + i) % slots * bytes
      SLOT[ring[2]](m, tree, at + offset, 0, address + offset)
    end
    m.unjudged = false
    return said
  end
end
