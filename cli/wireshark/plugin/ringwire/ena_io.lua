-- Descriptors and completions of the data path, and LLQ entries.
-- Layouts: shared/ena/io-tx.ts, io-rx.ts, llq.ts.
return function(rw)
  local ena, frames = rw.ena, rw.frames
  local T, R = "ringwire.ena.tx", "ringwire.ena.rx"
  local queue_field = rw.field("ringwire.ena.queue", "string")
  local tx_req_id = rw.field(T .. ".req_id", "u16")
  local tx_address = rw.field(T .. ".address", "u48", { hex = true })
  local tx_mss = rw.field(T .. ".meta.mss", "u16")
  local tx_header = rw.field(T .. ".header", "bytes")

  local function bit(name, n, bytes) return { name, 0, "bool", bytes = bytes or 4, mask = 2 ^ n } end
  local function at_word(offset, spec)
    spec[2] = offset
    return spec
  end

  -- Every tx descriptor begins alike.
  local tx_ctrl = rw.layout(T, {
    { "length", 0, "u32", mask = 0xffff }, bit("meta", 23), { "phase", 0, "u32", mask = 0x1000000 },
    bit("first", 26), bit("last", 27), bit("comp_req", 28) })
  local tx_offload = rw.layout(T, {
    { "l3_proto", 4, "u32", mask = 0xf, names = ena.L3 }, at_word(4, bit("df", 4)), at_word(4, bit("tso_enable", 7)),
    { "l4_proto", 4, "u32", mask = 0x1f00, names = ena.L4 }, at_word(4, bit("l3_csum_enable", 13)),
    at_word(4, bit("l4_csum_enable", 14)), at_word(4, bit("fcs_disable", 15)), at_word(4, bit("l4_partial", 17)),
    { "header_length", 12, "u32", mask = 0xff000000 } })
  local tx_meta = rw.layout(T .. ".meta", {
    bit("ext_valid", 14), bit("eth_meta_type", 20), bit("meta_store", 21),
    { "l3_hdr_len", 8, "u32", mask = 0xff }, { "l3_hdr_offset", 8, "u32", mask = 0xff00 },
    { "l4_hdr_len_words", 8, "u32", mask = 0x3f0000 } })
  local tx_cdesc = rw.layout(T, {
    { "req_id", 0, "u16" }, { "status", 2, "u8" }, { "completion_phase", 3, "u8", mask = 1 },
    { "mbz", 3, "u8", mask = 0xc0 }, { "sub_qid", 4, "u16" }, { "sq_head_idx", 6, "u16" } })
  local rx_desc = rw.layout(R, {
    { "buffer_length", 0, "u16" }, { "desc_phase", 3, "u8", mask = 1 },
    { "desc_first", 3, "bool", bytes = 1, mask = 4 }, { "desc_last", 3, "bool", bytes = 1, mask = 8 },
    { "comp_req", 3, "bool", bytes = 1, mask = 16 }, { "req_id", 4, "u16" }, { "address", 8, "u48" } })
  local rx_cdesc = rw.layout(R, {
    { "l3_proto", 0, "u32", mask = 0x1f, names = ena.L3 }, { "vlan_count", 0, "u32", mask = 0x60 },
    { "l4_proto", 0, "u32", mask = 0x1f00, names = ena.L4 }, bit("l3_csum_err", 13), bit("l4_csum_err", 14),
    bit("ipv4_frag", 15), bit("l4_csum_checked", 16), { "phase", 0, "u32", mask = 0x1000000 }, bit("l3_csum_2", 25),
    bit("first", 26), bit("last", 27), bit("buffer", 30), { "length", 4, "u16" }, { "req_id", 6, "u16" },
    { "hash", 8, "u32", hex = true }, { "sub_qid", 12, "u16" }, { "offset", 14, "u8" } })

  -- Questions: see state.lua. ------------------------------------------------------------------

  -- The queue whose ring holds `address`. Bursts stay in one ring, so the last one is tried first.
  local function queue_at(c, address, llq)
    local q = c.last_queue
    if q and q.llq == llq and rw.ring_holds(q, address) then return q end
    for _, queue in pairs(c.queues) do
      if queue.llq == llq and rw.ring_holds(queue, address) then
        c.last_queue = queue
        return queue
      end
    end
    return nil
  end

  -- A descriptor is posted. `value` is kept with its request id until the completion; false: there
  -- will be none, so the end of the id's use is not known. An answer is a name, or a table if there
  -- is more to report. Most descriptors need only a name.
  local function posted(c, address, llq, entry, phase, is_meta, first, req_id, value)
    local queue = queue_at(c, address, llq)
    if queue == nil then return nil end
    local verdict = entry and rw.entry_written(queue, address, phase) or nil
    if first then queue.wants_id = true end
    local twice = false
    if queue.wants_id and not is_meta then
      queue.wants_id = false
      if value then queue.seen = true end
      if value and queue.outstanding then
        twice = queue.outstanding[req_id] ~= nil
        queue.outstanding[req_id] = value
      end
    end
    if verdict or twice then return { name = queue.name, verdict = verdict, twice = twice } end
    return queue.name
  end

  local function completed(c, address, phase, req_id)
    local cq = queue_at(c, address, false)
    if cq == nil then return nil end
    local verdict = rw.entry_written(cq, address, phase)
    local sq = cq.sq
    local held, unknown
    -- A ring outside the windows is read by the device, and no descriptor of it is seen.
    if sq and sq.outstanding then
      held = sq.outstanding[req_id]
      unknown = held == nil and sq.seen
      sq.outstanding[req_id] = nil
    end
    return { name = sq and (cq.name .. " of " .. sq.name) or cq.name, verdict = verdict,
      unknown = unknown, buffer = type(held) == "number" and held or nil }
  end

  --- The shape of LLQ entries that the driver chose: { entry = bytes, before = descriptors }.
  function ena.llq_shape(c) return c.llq end

  -- Shows what a question answered; returns the queue's name.
  local function tell(m, tree, at, answer, what, req_id)
    if answer == nil then return nil end
    local name = answer
    if type(answer) == "table" then
      name = answer.name
      if answer.verdict then rw.say_verdict(m, tree, answer.verdict) end
      if answer.twice then
        rw.expert(m, tree, "twice", what .. " req_id " .. rw.dec(req_id) .. " is outstanding already")
      end
      if answer.unknown then
        rw.expert(m, tree, "req_id", what .. " completion of req_id " .. rw.dec(req_id) .. ", which is not outstanding")
      end
    end
    if tree then tree:add(queue_field, m.tvb(at, 1), name):set_generated() end
    return name
  end

  local function protocols(l3, l4)
    if l3 == 0 and l4 == 0 then return "" end
    return rw.name_of(ena.L4, l4) .. "/" .. rw.name_of(ena.L3, l3)
  end
  local function marks(first, last, phase)
    return rw.line(first and "first", last and "last", "phase=" .. rw.dec(phase))
  end

  -- Transmit. ------------------------------------------------------------------------------------

  -- The packet under way on a queue.
  local function open_packet(m, key, header)
    local packet = { parts = {}, whole = true }
    if header then packet.parts[1] = header end
    frames.packets(m)[key] = packet
    return packet
  end

  --- One tx descriptor: `address` is where it is written. `llq` is { key, header } when it lies
  --- in device memory. Returns whether it is the packet's last.
  function ena.tx_desc(m, tree, at, address, llq, entry)
    local len_ctrl, meta_ctrl = rw.u32(m, at), rw.u32(m, at + 4)
    local is_meta, first, last = rw.bit(len_ctrl, 23) == 1, rw.bit(len_ctrl, 26) == 1, rw.bit(len_ctrl, 27) == 1
    local phase, length = rw.bit(len_ctrl, 24), len_ctrl % 65536
    local req_id = rw.bits(len_ctrl, 16, 6) * 1024 + rw.bits(meta_ctrl, 22, 10)
    local buffer = rw.u16(m, at + 12) * 4294967296 + rw.u32(m, at + 8)
    local answer = rw.ask(m, posted, address, llq ~= nil, entry, phase, is_meta, first, req_id,
      rw.bit(len_ctrl, 28) == 1)

    local key = "tx " .. (type(answer) == "table" and answer.name or answer or "")
    local packet = frames.packets(m)[key]
    if first or (llq and llq.header and packet == nil) then packet = open_packet(m, key, llq and llq.header) end
    -- A packet's first data descriptor is the one that carries id and offload.
    local leads = packet and not is_meta and packet.req_id == nil
    if leads then packet.req_id = req_id end

    local item
    if tree then
      local said
      if is_meta then
        said = string.format("tx meta mss=%.0f l3=%.0f@%.0f l4=%.0f", rw.bits(len_ctrl, 16, 4) * 1024
          + rw.bits(rw.u32(m, at + 8), 22, 10), tx_meta:get(m, at, "l3_hdr_len"), tx_meta:get(m, at, "l3_hdr_offset"),
          tx_meta:get(m, at, "l4_hdr_len_words") * 4)
      else
        local header = tx_offload:get(m, at, "header_length")
        said = rw.line(leads and "tx req=" .. rw.dec(req_id) or "tx", "len=" .. rw.dec(length),
          header > 0 and "header=" .. rw.dec(header), "addr=" .. rw.hex(buffer),
          leads and protocols(tx_offload:get(m, at, "l3_proto"), tx_offload:get(m, at, "l4_proto")),
          leads and rw.bit(meta_ctrl, 7) == 1 and "tso")
      end
      item = rw.entry(m, tree, at, 16, rw.line(said, marks(first, last, phase)), tx_ctrl)
      if is_meta then
        tx_meta:add(m, item, at, at + 16)
        item:add(tx_mss, m.tvb(at, 12), rw.bits(len_ctrl, 16, 4) * 1024 + rw.bits(rw.u32(m, at + 8), 22, 10))
      else
        -- Only a packet's first data descriptor has an id. In the others the bits have no meaning.
        if leads or packet == nil then
          item:add(tx_req_id, m.tvb(at, 8), req_id)
          tx_offload:add(m, item, at, at + 16)
        end
        item:add(tx_address, m.tvb(at + 8, 6), m.tvb(at + 8, 6):le_uint64())
      end
    end
    tell(m, item, at, answer, "tx", req_id)

    if packet and not is_meta and length > 0 then
      packet.whole = frames.gather(m, packet.parts, 0, buffer, length) and packet.whole
    end
    if last and packet then
      frames.packets(m)[key] = nil
      if packet.whole then
        frames.show(m, item or m.root, packet.parts, "Frame sent, req_id " .. rw.dec(packet.req_id or 0))
      end
    end
    return last
  end

  --- An LLQ entry: descriptors, then, in a packet's first entry, the packet's header.
  function ena.llq_entry(m, tree, at, length, offset, shape)
    local stop = math.min(at + length, m.limit)
    local entry_tree = rw.entry(m, tree, at, stop - at, string.format("LLQ entry at BAR2+%s, %.0f bytes", rw.hex(offset), length))
    if at + 16 > stop then return end
    local begins = rw.bit(rw.u32(m, at), 26) == 1
    local most = begins and shape.before or math.floor(length / 16)
    local last, count = false, 0
    -- The length of the header stands in the first data descriptor; a meta descriptor may precede.
    local header
    if begins and shape.before > 0 then
      for i = 0, shape.before - 1 do
        local desc = at + i * 16
        if desc + 16 > stop then break end
        if rw.bit(rw.u32(m, desc), 23) == 0 then
          local bytes = math.floor(rw.u32(m, desc + 12) / 16777216)
          local from = at + shape.before * 16
          if bytes > 0 and from + bytes <= stop then
            header = { at = from, length = bytes }
            if entry_tree then entry_tree:add(tx_header, m.tvb(from, bytes)) end
          end
          break
        end
      end
    end
    while not last and count < most and at + (count + 1) * 16 <= stop do
      last = ena.tx_desc(m, entry_tree, at + count * 16, offset, { header = header }, count == 0)
      count = count + 1
    end
  end

  local L = {}

  L[19] = function(m, tree, at, address) ena.tx_desc(m, tree, at, address, nil, true) end

  L[20] = function(m, tree, at, address)
    local req_id, phase = rw.u16(m, at), tx_cdesc:get(m, at, "completion_phase")
    local answer = rw.ask(m, completed, address, phase, req_id)
    local item = tree and rw.entry(m, tree, at, 8,
      string.format("tx done req=%.0f head=%.0f phase=%.0f", req_id, tx_cdesc:get(m, at, "sq_head_idx"), phase), tx_cdesc)
    if tx_cdesc:get(m, at, "mbz") ~= 0 then rw.expert(m, item, "mbz", "bits of a tx completion that must be zero") end
    tell(m, item, at, answer, "tx", req_id)
  end

  -- Receive. -------------------------------------------------------------------------------------

  L[21] = function(m, tree, at, address)
    local length, req_id, buffer = rw.u16(m, at), rw.u16(m, at + 4), rw.u48(m, at + 8)
    local phase = rx_desc:get(m, at, "desc_phase")
    local answer = rw.ask(m, posted, address, false, true, phase, false, true, req_id, buffer)
    local item = tree and rw.entry(m, tree, at, 16, string.format("rx req=%.0f len=%.0f addr=%s phase=%.0f", req_id,
      length == 0 and 65536 or length, rw.hex(buffer), phase), rx_desc)
    tell(m, item, at, answer, "rx", req_id)
  end

  L[22] = function(m, tree, at, address)
    local status, length, req_id = rw.u32(m, at), rw.u16(m, at + 4), rw.u16(m, at + 6)
    local first, last, phase = rw.bit(status, 26) == 1, rw.bit(status, 27) == 1, rw.bit(status, 24)
    local answer = rw.ask(m, completed, address, phase, req_id)
    local item = tree and rw.entry(m, tree, at, 16, rw.line(string.format("rx done req=%.0f len=%.0f", req_id, length),
      protocols(rw.bits(status, 0, 5), rw.bits(status, 8, 5)), rw.bit(status, 13) == 1 and "l3bad",
      rw.bit(status, 16) == 1 and "l4checked", rw.bit(status, 14) == 1 and "l4bad",
      "hash=" .. rw.hex(rw.u32(m, at + 8)), marks(first, last, phase)), rx_cdesc)
    if rw.bit(status, 7) + rw.bit(status, 17) > 0 then
      rw.expert(m, item, "mbz", "bits of an rx completion that must be zero")
    end
    local name = tell(m, item, at, answer, "rx", req_id) or ""

    local key = "rx " .. name
    local packet = frames.packets(m)[key]
    if first then packet = open_packet(m, key) end
    if packet == nil then return end
    local offset = first and rw.u8(m, at + 14) or 0
    local found
    if answer and answer.buffer then found = frames.gather(m, packet.parts, 0, answer.buffer + offset, length)
    else found = frames.gather_next(m, packet.parts, length) end
    packet.whole = packet.whole and found
    if last then
      frames.packets(m)[key] = nil
      if packet.whole then frames.show(m, item or m.root, packet.parts, "Frame received, req_id " .. rw.dec(req_id)) end
    end
  end

  --- Shows one entry of a record, by record type.
  ena.IO = L
end
