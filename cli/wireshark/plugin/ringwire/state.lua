-- The state of a connection, and how answers stay right when Wireshark dissects packets again in
-- any order.
--
-- Some texts depend on earlier packets: the queue of a doorbell, the feature that a completion
-- answers, whether a request id is outstanding. Wireshark dissects a file once from front to back,
-- and then any packet at any time. So each message keeps a tape. In the first pass every question
-- goes to the connection, which changes as it answers, and the answer is recorded. In later passes
-- the answers are read from the tape and the connection does not change.
--
--   first pass    ask(m, question, ...) ──► question(connection, ...) ──► answer ──► tape
--   later                               ◄────────────────────────────────────────── tape
--
-- The walk over a message is the same each time, so the n-th answer belongs to the n-th question.
-- An answer is never changed after it was given.
return function(rw)
  local connections, tapes, joined

  --- Forgets everything: a new file, or the same one from the start.
  function rw.reset_state()
    connections, tapes, joined = {}, {}, { bytes = 0 }
  end
  rw.reset_state()

  local function new_connection()
    return { commands = {}, places = {}, queues = {}, control = {}, registers = {}, tags = {},
      kept = {}, open = {}, joined = joined,
      llq = { entry = 128, before = 2 }, grants = {}, rings = {}, requests = {}, ring_refs = {},
      remembered = 0 }
  end

  -- Most entries of the tables that a hostile peer can fill.
  local MAX_REMEMBERED = 65536

  --- A question that keeps `value` in a table of the connection, unless too much is kept already.
  function rw.remember(c, name, key, value)
    if c[name][key] == nil then
      if c.remembered >= MAX_REMEMBERED then return end
      c.remembered = c.remembered + 1
    end
    c[name][key] = value
  end

  --- A question that takes out what is remembered.
  function rw.recall(c, name, key)
    local value = c[name][key]
    if value ~= nil then
      c[name][key] = nil
      c.remembered = c.remembered - 1
    end
    return value
  end

  --- Gives a message its tape. `key` names the connection, `place` the message within the file.
  function rw.begin_message(m, key, place, visited)
    local tape = tapes[place]
    m.asked = 0
    if tape == nil then
      tape = {}
      tapes[place] = tape
      m.live = not visited
      if m.live then
        connections[key] = connections[key] or new_connection()
        m.connection = connections[key]
        -- The snapshot of an older program contains names, but no positions.
        if m.connection.old_snapshot and not m.old_snapshot then rw.lost(m) end
        m.connection.old_snapshot = m.old_snapshot
      end
    end
    m.tape = tape
  end

  --- The answer of `question(connection, ...)`, live or from the tape.
  function rw.ask(m, question, ...)
    local n = m.asked + 1
    m.asked = n
    if not m.live then return m.tape[n] end
    local answer = question(m.connection, ...)
    m.tape[n] = answer
    return answer
  end

  --- Drops outstanding ids and ring positions, because bytes of the connection are missing.
  function rw.lost(m)
    if not m.live then return end
    local c = m.connection
    for _, queue in pairs(c.queues) do
      queue.next, queue.outstanding, queue.wants_id = nil, nil, nil
    end
    for _, ring in pairs(c.rings) do ring.ids, ring.extra = nil, {} end
    c.commands, c.requests, c.tags, c.admin_seen = {}, {}, {}, nil
    c.kept, c.open = {}, {}
    if c.aq then c.aq.next = nil end
    if c.acq then c.acq.next = nil end
    if c.aenq then c.aenq.next = nil end
  end

  --- A ring of `depth` entries of `entry` bytes at `base`, written from its first slot, phase 1.
  function rw.new_ring(base, depth, entry)
    return { base = base, depth = depth, entry = entry, next = 0, phase = 1 }
  end

  --- Records an entry. Returns nil when slot and phase are as expected, else what is wrong. The
  --- ring then continues from this entry.
  function rw.entry_written(ring, address, phase)
    local slot = math.floor((address - ring.base) / ring.entry)
    local verdict
    if ring.believe then
      ring.believe = nil
      if ring.next ~= nil and slot ~= ring.next then
        if slot < ring.next then ring.phase = 1 - ring.phase end
        -- The requests in between are outstanding and not known.
        ring.next, ring.outstanding = slot, nil
      end
    end
    if ring.next == nil then
      ring.next, ring.phase = slot, phase
    elseif slot ~= ring.next then
      verdict = { "order", string.format("slot %.0f is written where slot %.0f is next", slot, ring.next) }
      ring.next, ring.phase = slot, phase
    elseif phase ~= ring.phase then
      verdict = { "phase", string.format("phase %.0f in slot %.0f, where %.0f is expected", phase, slot, ring.phase) }
    end
    ring.next = ring.next + 1
    if ring.next >= ring.depth then ring.next, ring.phase = 0, 1 - ring.phase end
    return verdict
  end

  --- True when `address` lies in the ring.
  function rw.ring_holds(ring, address)
    return ring ~= nil and address >= ring.base and address < ring.base + ring.depth * ring.entry
  end
end
