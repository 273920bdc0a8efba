-- The admin queue and the event queue: entries field by field, and the queues that they define.
-- Layouts: shared/ena/admin.ts, aenq.ts; words: cli/trace/ena.ts.
return function(rw)
  local ena = rw.ena
  local P = "ringwire.ena.admin"
  local ENTRY = 64

  local head = rw.layout(P, {
    { "command_id", 0, "u16", mask = 0x0fff }, { "opcode", 2, "u8", names = ena.OPCODE },
    { "phase", 3, "u8", mask = 1 }, { "ctrl_data", 3, "bool", bytes = 1, mask = 2 },
    { "ctrl_data_indirect", 3, "bool", bytes = 1, mask = 4 } })
  local control = rw.layout(P, { { "control_length", 4, "u32" }, { "control_address", 8, "u48" } })
  local create_sq = rw.layout(P, {
    { "direction", 4, "u8", mask = 0xe0, names = ena.DIRECTION },
    { "placement", 6, "u8", mask = 0x0f, names = ena.PLACEMENT },
    { "completion_policy", 6, "u8", mask = 0x70, names = ena.COMPLETION_POLICY },
    { "contiguous", 7, "bool", bytes = 1, mask = 1 }, { "cq_idx", 8, "u16" }, { "sq_depth", 10, "u16" },
    { "sq_ba", 12, "u48" }, { "sq_head_writeback", 20, "u48" } })
  local destroy_sq = rw.layout(P, { { "sq_idx", 4, "u16" },
    { "direction", 6, "u8", mask = 0xe0, names = ena.DIRECTION, as = P .. ".destroy_direction" } })
  local create_cq = rw.layout(P, {
    { "interrupt_mode", 4, "bool", bytes = 1, mask = 0x20 }, { "entry_size_words", 5, "u8", mask = 0x1f },
    { "cq_depth", 6, "u16" }, { "msix_vector", 8, "u32" }, { "cq_ba", 12, "u48" } })
  local destroy_cq = rw.layout(P, { { "cq_idx", 4, "u16" } })
  local get_stats = rw.layout(P, {
    { "stats_type", 16, "u8", names = ena.STATS }, { "stats_scope", 17, "u8", names = ena.SCOPE },
    { "queue_idx", 20, "u16" }, { "device_id", 22, "u16" }, { "requested_metrics", 24, "u64", hex = true } })
  local feature = rw.layout(P, {
    { "select", 16, "u8", mask = 0x03, names = ena.SELECT }, { "feature_id", 17, "u8", names = ena.FEATURE },
    { "feature_version", 18, "u8" } })
  local done = rw.layout(P, {
    { "command_id", 0, "u16", mask = 0x0fff }, { "status", 2, "u8", names = ena.STATUS },
    { "phase", 3, "u8", mask = 1 }, { "extended_status", 4, "u16", hex = true }, { "sq_head_indx", 6, "u16" } })
  local sq_made = rw.layout(P, {
    { "sq_idx", 8, "u16" }, { "sq_doorbell_offset", 12, "u32", hex = true },
    { "llq_descriptors_offset", 16, "u32", hex = true }, { "llq_headers_offset", 20, "u32", hex = true } })
  local cq_made = rw.layout(P, {
    { "cq_idx", 8, "u16" }, { "cq_actual_depth", 10, "u16" },
    { "numa_node_register_offset", 12, "u32", hex = true },
    { "cq_head_db_register_offset", 16, "u32", hex = true },
    { "cq_interrupt_unmask_register_offset", 20, "u32", hex = true } })
  local answers = rw.field(P .. ".answers", "string")

  -- By opcode: bytes that its words need, the layouts behind the head, and its words.
  local function feature_words(v, id, m, at)
    local body = v.opcode == 9 and ena.SET_WORDS[v.feature_id] and ena.BODY[v.feature_id]
    return rw.line(rw.name_of(ena.FEATURE, v.feature_id), id,
      v.control_length > 0 and "buffer=" .. rw.dec(v.control_length), body and body:words(m, at + 20))
  end
  local COMMAND = {
    [1] = { 36, { create_sq }, function(v, id)
      return rw.line(rw.name_of(ena.DIRECTION, v.direction), id, "cq=" .. rw.dec(v.cq_idx), "depth=" .. rw.dec(v.sq_depth),
        rw.name_of(ena.PLACEMENT, v.placement), v.placement == 1 and "base=" .. rw.hex(v.sq_ba))
    end },
    [2] = { 8, { destroy_sq }, function(v, id)
      return rw.line(rw.name_of(ena.DIRECTION, v.direction), id, "sq=" .. rw.dec(v.sq_idx))
    end },
    [3] = { 20, { create_cq }, function(v, id)
      return rw.line(id, "depth=" .. rw.dec(v.cq_depth), "entry=" .. rw.dec(v.entry_size_words * 4),
        "vector=" .. rw.dec(v.msix_vector), "base=" .. rw.hex(v.cq_ba))
    end },
    [4] = { 8, { destroy_cq }, function(v, id) return id .. " cq=" .. rw.dec(v.cq_idx) end },
    [8] = { 64, { control, feature }, feature_words },
    [9] = { 64, { control, feature }, feature_words },
    [11] = { 32, { control, get_stats }, function(v, id) return rw.name_of(ena.STATS, v.stats_type) .. " " .. id end },
  }
  local MADE = { [1] = sq_made, [3] = cq_made }

  local function truncated(what, length)
    return string.format("%s truncated: %.0f of %d bytes", what, length, ENTRY)
  end

  -- Questions: see state.lua. ------------------------------------------------------------------

  -- An entry at `address`. Returns what is wrong with it; nil for one outside the ring.
  local function ring_entry(ring, address, phase)
    return rw.ring_holds(ring, address) and rw.entry_written(ring, address, phase) or nil
  end

  local function command_posted(c, address, command)
    c.commands[command.command_id] = command
    if (command.control_length or 0) > 0 then c.control[command.control_address] = command.feature_id or "metrics" end
    if command.llq then c.llq = command.llq end
    return ring_entry(c.aq, address, command.phase)
  end

  -- Adds a queue, or removes the one of that key.
  local function set_queue(c, key, queue)
    c.queues[key] = queue
    c.last_queue = nil
    return queue
  end

  --- Takes note of a completion queue. `unmask` and `numa` are offsets of its registers, or 0.
  function ena.add_cq(c, index, base, depth, entry, unmask, numa)
    if unmask ~= 0 then c.places[unmask] = string.format("unmask of CQ %.0f", index) end
    if numa ~= 0 then c.places[numa] = string.format("numa node of CQ %.0f", index) end
    local ring = rw.new_ring(base, depth, entry)
    ring.name, ring.llq = string.format("CQ %.0f", index), false
    return set_queue(c, string.format("cq %.0f", index), ring)
  end

  --- Takes note of a submission queue; `dir` is "tx" or "rx", `llq` that it lies in the device.
  function ena.add_sq(c, dir, index, cq_index, base, depth, llq, doorbell)
    local name = string.format("%s SQ %.0f", dir, index)
    c.places[doorbell] = "doorbell of " .. name
    local ring = rw.new_ring(base, depth, llq and c.llq.entry or 16)
    ring.name, ring.llq, ring.outstanding = name, llq, {}
    local cq = c.queues[string.format("cq %.0f", cq_index)]
    if cq then cq.sq = ring end
    return set_queue(c, string.format("sq %s %.0f", dir, index), ring)
  end

  local function command_completed(c, address, made)
    local verdict = ring_entry(c.acq, address, made.phase)
    local command = c.commands[made.command_id]
    c.commands[made.command_id] = nil
    if command == nil then
      -- If the capture lacks the command, the answer is not known.
      return { verdict = verdict, unknown = c.admin_seen }
    end
    local opcode, dir = command.opcode, command.direction == 1 and "tx" or "rx"
    if made.status ~= 0 then -- nothing has changed
    elseif opcode == 1 then
      local llq = command.placement == 3
      ena.add_sq(c, dir, made.sq_idx, command.cq_idx, llq and made.llq_descriptors_offset or command.sq_ba,
        command.sq_depth, llq, made.sq_doorbell_offset)
    elseif opcode == 3 then
      ena.add_cq(c, made.cq_idx, command.cq_ba, made.cq_actual_depth ~= 0 and made.cq_actual_depth or command.cq_depth,
        math.max(command.entry_size_words * 4, 4), made.cq_interrupt_unmask_register_offset,
        made.numa_node_register_offset)
    elseif opcode == 2 then set_queue(c, string.format("sq %s %.0f", dir, command.sq_idx), nil)
    elseif opcode == 4 then set_queue(c, string.format("cq %.0f", command.cq_idx), nil) end
    return { verdict = verdict, command = command }
  end

  local function event_written(c, address, phase) return ring_entry(c.aenq, address, phase) end

  local function say_verdict(m, tree, verdict)
    if verdict then rw.expert(m, tree, verdict[1], verdict[2]) end
  end
  rw.say_verdict = say_verdict

  --- An admin command: "GET_FEATURE DEVICE_ATTRIBUTES id=3".
  function ena.admin_command(m, tree, at, length, address)
    local stop = at + length
    head:add(m, tree, at, stop)
    if length < 4 then return truncated("admin command", length) end
    local v = head:values(m, at)
    local name, id = rw.name_of(ena.OPCODE, v.opcode), "id=" .. rw.dec(v.command_id)
    local kind = COMMAND[v.opcode]
    if kind and length < kind[1] then return truncated(name, length) end
    for _, layout in ipairs(kind and kind[2] or {}) do
      layout:values(m, at, v)
      if length >= ENTRY then layout:add(m, tree, at, stop) end
    end
    local words = name .. " " .. (kind and kind[3](v, id, m, at) or id)
    if length < ENTRY then return words end
    if kind == nil then rw.expert(m, tree, "opcode", "admin opcode " .. rw.dec(v.opcode) .. " is unknown") end
    local set = v.opcode == 9 and ena.BODY[v.feature_id]
    if set then
      set:add(m, tree, at + 20, stop)
      if v.feature_id == 4 then
        local size = set:get(m, at + 20, "entry_size_enabled")
        v.llq = { entry = size == 4 and 256 or size == 2 and 192 or 128,
          before = set:get(m, at + 20, "descs_before_header_enabled") }
      end
    end
    say_verdict(m, tree, rw.ask(m, command_posted, address, v))
    return words
  end

  --- An admin completion: "SUCCESS id=3", "ILLEGAL_PARAMETER id=3 extended=0x12".
  function ena.admin_completion(m, tree, at, length, address)
    local stop = at + length
    done:add(m, tree, at, stop)
    if length < 8 then return truncated("admin completion", length) end
    local v = done:values(m, at)
    local status, id = rw.name_of(ena.STATUS, v.status), rw.dec(v.command_id)
    local words = rw.line(status, "id=" .. id, v.extended_status ~= 0 and "extended=" .. rw.hex(v.extended_status))
    if length < ENTRY then return words end
    local answer = rw.ask(m, command_completed, address, cq_made:values(m, at, sq_made:values(m, at, v))) or {}
    local command = answer.command
    if command and tree then
      local what = rw.line(rw.name_of(ena.OPCODE, command.opcode),
        command.feature_id and rw.name_of(ena.FEATURE, command.feature_id),
        command.stats_type and rw.name_of(ena.STATS, command.stats_type))
      tree:add(answers, m.tvb(at, 2), what):set_generated()
      local made = MADE[command.opcode]
      local body = command.opcode == 8 and ena.BODY[command.feature_id]
        or command.opcode == 11 and ena.STATS_BODY[command.stats_type]
      if made and v.status == 0 then made:add(m, tree, at, stop) end
      if body and v.status == 0 then body:add(m, tree, at + 8, stop) end
    end
    if v.status ~= 0 then rw.expert(m, tree, "status", "admin command failed: " .. status) end
    if answer.unknown then rw.expert(m, tree, "req_id", "completion of command id " .. id .. ", which is not outstanding") end
    say_verdict(m, tree, answer.verdict)
    return words
  end

  -- Events. --------------------------------------------------------------------------------------

  local E = "ringwire.ena.aenq"
  local event = rw.layout(E, {
    { "group", 0, "u16", names = ena.GROUP }, { "syndrome", 2, "u16", names = ena.SYNDROME },
    { "phase", 4, "u8", mask = 1 }, { "timestamp", 8, "u64" } })
  local link = rw.layout(E, { { "link_up", 16, "bool", bytes = 4, mask = 1 } })
  local keep_alive = rw.layout(E, { { "rx_drops", 16, "u64" }, { "tx_drops", 24, "u64" }, { "rx_overruns", 32, "u64" } })
  local conf = rw.layout(E, { { "notifications_bitmap", 16, "u64", hex = true } })

  local EVENT = { [0] = link, [4] = keep_alive, [6] = conf }

  --- An entry of the event queue: "LINK_CHANGE up".
  function ena.event(m, tree, at, length, address)
    local stop = at + length
    event:add(m, tree, at, stop)
    if length < 40 then return truncated("event", length) end
    local v = event:values(m, at)
    local body = EVENT[v.group]
    if body then
      body:values(m, at, v)
      body:add(m, tree, at, stop)
    elseif v.group == 3 and v.syndrome == 2 then ena.BODY[3]:add(m, tree, at + 16, stop) end
    say_verdict(m, tree, rw.ask(m, event_written, address, v.phase))
    local words
    if v.group == 0 then words = v.link_up == 1 and "up" or "down"
    elseif v.group == 3 then words = rw.name_of(ena.SYNDROME, v.syndrome)
    elseif v.group == 4 then
      words = string.format("rxDrops=%.0f txDrops=%.0f rxOverruns=%.0f", v.rx_drops, v.tx_drops, v.rx_overruns)
    elseif v.group == 6 then words = rw.hex(v.notifications_bitmap)
    else words = v.syndrome ~= 0 and "syndrome=" .. rw.dec(v.syndrome) end
    return rw.line(rw.name_of(ena.GROUP, v.group), words)
  end
end
