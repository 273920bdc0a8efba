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

  local BODY = { [1] = create_sq, [2] = destroy_sq, [3] = create_cq, [4] = destroy_cq }
  local MADE = { [1] = sq_made, [3] = cq_made }
  local SIZE = { [1] = 36, [2] = 8, [3] = 20, [4] = 8, [8] = 64, [9] = 64, [11] = 32 }

  local function truncated(what, length)
    return string.format("%s truncated: %.0f of %d bytes", what, length, ENTRY)
  end

  --- "GET_FEATURE DEVICE_ATTRIBUTES id=3"
  local function command_words(m, at, length)
    if length < 4 then return truncated("admin command", length) end
    local opcode = head:get(m, at, "opcode")
    local name, id = rw.name_of(ena.OPCODE, opcode), "id=" .. rw.dec(head:get(m, at, "command_id"))
    local size = SIZE[opcode]
    if size == nil then return name .. " " .. id end
    if length < size then return truncated(name, length) end
    local function say(layout, field, label) return label .. "=" .. rw.dec(layout:get(m, at, field)) end
    if opcode == 1 then
      local placement = create_sq:get(m, at, "placement")
      return rw.line(name, rw.name_of(ena.DIRECTION, create_sq:get(m, at, "direction")), id,
        say(create_sq, "cq_idx", "cq"), say(create_sq, "sq_depth", "depth"),
        rw.name_of(ena.PLACEMENT, placement),
        placement == 1 and "base=" .. rw.hex(create_sq:get(m, at, "sq_ba")))
    elseif opcode == 2 then
      return rw.line(name, rw.name_of(ena.DIRECTION, destroy_sq:get(m, at, "direction")), id,
        say(destroy_sq, "sq_idx", "sq"))
    elseif opcode == 3 then
      return rw.line(name, id, say(create_cq, "cq_depth", "depth"),
        "entry=" .. rw.dec(create_cq:get(m, at, "entry_size_words") * 4),
        say(create_cq, "msix_vector", "vector"), "base=" .. rw.hex(create_cq:get(m, at, "cq_ba")))
    elseif opcode == 4 then return rw.line(name, id, say(destroy_cq, "cq_idx", "cq"))
    elseif opcode == 11 then
      return rw.line(name, rw.name_of(ena.STATS, get_stats:get(m, at, "stats_type")), id)
    end
    local which = feature:get(m, at, "feature_id")
    local buffer = control:get(m, at, "control_length")
    local body = opcode == 9 and ena.SET_WORDS[which] and ena.BODY[which]
    return rw.line(name, rw.name_of(ena.FEATURE, which), id, buffer > 0 and "buffer=" .. rw.dec(buffer),
      body and body:words(m, at + 20))
  end

  --- "SUCCESS id=3", "ILLEGAL_PARAMETER id=3 extended=0x12"
  local function completion_words(m, at, length)
    if length < 8 then return truncated("admin completion", length) end
    local extended = done:get(m, at, "extended_status")
    return rw.line(rw.name_of(ena.STATUS, done:get(m, at, "status")),
      "id=" .. rw.dec(done:get(m, at, "command_id")), extended ~= 0 and "extended=" .. rw.hex(extended))
  end

  -- Questions: see state.lua. ------------------------------------------------------------------

  local function command_posted(c, address, id, phase, info)
    c.commands[id] = info
    if info.buffer then c.control[info.buffer] = info.feature or "metrics" end
    if info.opcode == 9 and info.llq then c.llq = info.llq end
    return rw.ring_holds(c.aq, address) and rw.entry_written(c.aq, address, phase) or nil
  end

  local function add_queue(c, key, queue)
    c.queues[key] = queue
    c.last_queue = nil
    return queue
  end

  --- Takes note of a completion queue. `unmask` and `numa` are offsets of its registers, or 0.
  function ena.add_cq(c, index, base, depth, entry, unmask, numa)
    if unmask ~= 0 then c.places[unmask] = string.format("unmask of CQ %.0f", index) end
    if numa ~= 0 then c.places[numa] = string.format("numa node of CQ %.0f", index) end
    local ring = rw.new_ring(base, depth, entry)
    ring.name, ring.kind = string.format("CQ %.0f", index), "cq"
    return add_queue(c, string.format("cq %.0f", index), ring)
  end

  --- Takes note of a submission queue; `dir` is "tx" or "rx", `llq` that it lies in the device.
  function ena.add_sq(c, dir, index, cq_index, base, depth, llq, doorbell)
    local name = string.format("%s SQ %.0f", dir, index)
    c.places[doorbell] = "doorbell of " .. name
    local ring = rw.new_ring(base, depth, llq and c.llq.entry or 16)
    ring.name, ring.kind, ring.llq, ring.outstanding = name, dir, llq, {}
    local cq = c.queues[string.format("cq %.0f", cq_index)]
    if cq then cq.sq = ring end
    return add_queue(c, string.format("sq %s %.0f", dir, index), ring)
  end

  local function command_completed(c, address, id, phase, made)
    local verdict = rw.ring_holds(c.acq, address) and rw.entry_written(c.acq, address, phase) or nil
    local command = c.commands[id]
    c.commands[id] = nil
    if command == nil then
      -- If the capture lacks the command, the answer is not known.
      return { verdict = verdict, unknown = c.admin_seen }
    end
    if made and made.ok then
      if command.opcode == 1 then
        local llq = command.placement == 3
        ena.add_sq(c, command.direction == 1 and "tx" or "rx", made.index, command.cq,
          llq and made.llq or command.base, command.depth, llq, made.doorbell)
      elseif command.opcode == 3 then
        ena.add_cq(c, made.index, command.base, made.depth ~= 0 and made.depth or command.depth, command.entry,
          made.unmask, made.numa)
      elseif command.opcode == 2 then
        c.queues[string.format("sq %s %.0f", command.direction == 1 and "tx" or "rx", command.index)] = nil
        c.last_queue = nil
      elseif command.opcode == 4 then
        c.queues[string.format("cq %.0f", command.index)] = nil
        c.last_queue = nil
      end
    end
    return { verdict = verdict, command = command }
  end

  local function event_written(c, address, phase)
    return rw.ring_holds(c.aenq, address) and rw.entry_written(c.aenq, address, phase) or nil
  end

  local function say_verdict(m, tree, verdict)
    if verdict then rw.expert(m, tree, verdict[1], verdict[2]) end
  end
  rw.say_verdict = say_verdict

  --- An admin command. Returns its words.
  function ena.admin_command(m, tree, at, length, address)
    local words = command_words(m, at, length)
    local stop = at + length
    head:add(m, tree, at, stop)
    if length < ENTRY then return words end
    local opcode = head:get(m, at, "opcode")
    local info = { opcode = opcode }
    local body = BODY[opcode]
    if body then body:add(m, tree, at, stop) end
    if opcode == 1 then
      info.direction, info.placement = create_sq:get(m, at, "direction"), create_sq:get(m, at, "placement")
      info.depth, info.cq = create_sq:get(m, at, "sq_depth"), create_sq:get(m, at, "cq_idx")
      info.base = create_sq:get(m, at, "sq_ba")
    elseif opcode == 2 then
      info.direction, info.index = destroy_sq:get(m, at, "direction"), destroy_sq:get(m, at, "sq_idx")
    elseif opcode == 3 then
      info.depth, info.base = create_cq:get(m, at, "cq_depth"), create_cq:get(m, at, "cq_ba")
      info.entry = math.max(create_cq:get(m, at, "entry_size_words") * 4, 4)
    elseif opcode == 4 then info.index = destroy_cq:get(m, at, "cq_idx")
    elseif opcode == 8 or opcode == 9 or opcode == 11 then
      control:add(m, tree, at, stop)
      local layout = opcode == 11 and get_stats or feature
      layout:add(m, tree, at, stop)
      if opcode == 11 then info.stats = get_stats:get(m, at, "stats_type")
      else info.feature = feature:get(m, at, "feature_id") end
      if control:get(m, at, "control_length") > 0 then info.buffer = control:get(m, at, "control_address") end
      if opcode == 9 and ena.BODY[info.feature] then
        local set = ena.BODY[info.feature]
        set:add(m, tree, at + 20, stop)
        if info.feature == 4 then
          local size = set:get(m, at + 20, "entry_size_enabled")
          info.llq = { entry = size == 4 and 256 or size == 2 and 192 or 128,
            before = set:get(m, at + 20, "descs_before_header_enabled") }
        end
      end
    else rw.expert(m, tree, "opcode", "admin opcode " .. rw.dec(opcode) .. " is unknown") end
    say_verdict(m, tree, rw.ask(m, command_posted, address, head:get(m, at, "command_id"),
      head:get(m, at, "phase"), info))
    return words
  end

  --- An admin completion. Returns its words.
  function ena.admin_completion(m, tree, at, length, address)
    local words = completion_words(m, at, length)
    local stop = at + length
    done:add(m, tree, at, stop)
    if length < ENTRY then return words end
    local status = done:get(m, at, "status")
    local made = { ok = status == 0, index = sq_made:get(m, at, "sq_idx"),
      doorbell = sq_made:get(m, at, "sq_doorbell_offset"), llq = sq_made:get(m, at, "llq_descriptors_offset"),
      depth = cq_made:get(m, at, "cq_actual_depth"), numa = cq_made:get(m, at, "numa_node_register_offset"),
      unmask = cq_made:get(m, at, "cq_interrupt_unmask_register_offset") }
    local id = done:get(m, at, "command_id")
    local answer = rw.ask(m, command_completed, address, id, done:get(m, at, "phase"), made) or {}
    local command = answer.command
    if command and tree then
      local what = rw.line(rw.name_of(ena.OPCODE, command.opcode),
        command.feature and rw.name_of(ena.FEATURE, command.feature),
        command.stats and rw.name_of(ena.STATS, command.stats))
      tree:add(answers, m.tvb(at, 2), what):set_generated()
      if status == 0 then
        local body = MADE[command.opcode]
        if body then body:add(m, tree, at, stop) end
        if command.opcode == 8 then body = ena.BODY[command.feature] end
        if command.opcode == 11 then body = ena.STATS_BODY[command.stats] end
        if body and not MADE[command.opcode] then body:add(m, tree, at + 8, stop) end
      end
    end
    if status ~= 0 then rw.expert(m, tree, "status", "admin command failed: " .. rw.name_of(ena.STATUS, status)) end
    if answer.unknown then
      rw.expert(m, tree, "req_id", "completion of command id " .. rw.dec(id) .. ", which is not outstanding")
    end
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

  local function event_words(m, at, length)
    if length < 40 then return string.format("event truncated: %.0f of %d bytes", length, ENTRY) end
    local group, syndrome = event:get(m, at, "group"), event:get(m, at, "syndrome")
    local name = rw.name_of(ena.GROUP, group)
    if group == 0 then return name .. (link:get(m, at, "link_up") == 1 and " up" or " down") end
    if group == 4 then
      return string.format("%s rxDrops=%.0f txDrops=%.0f rxOverruns=%.0f", name, keep_alive:get(m, at, "rx_drops"),
        keep_alive:get(m, at, "tx_drops"), keep_alive:get(m, at, "rx_overruns"))
    end
    if group == 3 then return name .. " " .. rw.name_of(ena.SYNDROME, syndrome) end
    if group == 6 then return name .. " " .. rw.hex(conf:get(m, at, "notifications_bitmap")) end
    return rw.line(name, syndrome ~= 0 and "syndrome=" .. rw.dec(syndrome))
  end

  --- An entry of the event queue. Returns its words.
  function ena.event(m, tree, at, length, address)
    local stop = at + length
    event:add(m, tree, at, stop)
    if length >= 40 then
      local group = event:get(m, at, "group")
      if group == 0 then link:add(m, tree, at, stop)
      elseif group == 4 then keep_alive:add(m, tree, at, stop)
      elseif group == 6 then conf:add(m, tree, at, stop)
      elseif group == 3 and event:get(m, at, "syndrome") == 2 then ena.BODY[3]:add(m, tree, at + 16, stop) end
      say_verdict(m, tree, rw.ask(m, event_written, address, event:get(m, at, "phase")))
    end
    return event_words(m, at, length)
  end
end
