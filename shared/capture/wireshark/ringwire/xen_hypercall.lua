-- Hypercalls: their numbers, commands and argument structures.
-- Source: xen: xen/include/public/grant_table.h, event_channel.h, sched.h.
return function(rw)
  local xen = rw.xen
  local H = "ringwire.hypercall"
  xen.HYPERCALL = { [20] = "grant_table_op", [29] = "sched_op", [32] = "event_channel_op" }
  local ERRNO = { [0] = "OK", [1] = "EPERM", [2] = "ENOENT", [3] = "ESRCH", [7] = "E2BIG", [9] = "EBADF", [11] = "EAGAIN",
    [12] = "ENOMEM", [13] = "EACCES", [14] = "EFAULT", [16] = "EBUSY", [17] = "EEXIST", [19] = "ENODEV",
    [22] = "EINVAL", [28] = "ENOSPC", [38] = "ENOSYS", [61] = "ENODATA", [95] = "EOPNOTSUPP" }
  xen.ERRNO = ERRNO
  local GNTST = xen.GNTST
  local G, E, S = "ringwire.gnttab", "ringwire.evtchn", "ringwire.sched"
  local SHUTDOWN = { [0] = "poweroff", [1] = "reboot", [2] = "suspend", [3] = "crash", [4] = "watchdog", [5] = "soft_reset" }
  local CHANNEL = { [0] = "closed", [1] = "unbound", [2] = "interdomain", [3] = "pirq", [4] = "virq", [5] = "ipi" }

  -- A command: its name, the bytes of one argument structure, and the layout.
  local function op(name, bytes, prefix, fields)
    return { name = name, bytes = bytes, layout = fields and rw.layout(prefix, fields) }
  end
  local status16 = function(at) return { "status", at, "i16", names = GNTST } end
  local end_of = function(name, at) return { name, at, "u32" } end
  local OPS = {
    [20] = {
      [0] = op("map_grant_ref", 32, G, { { "host_addr", 0, "u64", hex = true }, { "flags", 8, "u32", hex = true },
        { "ref", 12, "u32" }, { "dom", 16, "u16" }, status16(18), { "handle", 20, "u32" },
        { "dev_bus_addr", 24, "u64", hex = true } }),
      [1] = op("unmap_grant_ref", 24, G, { { "host_addr", 0, "u64", hex = true },
        { "dev_bus_addr", 8, "u64", hex = true }, { "handle", 16, "u32" }, status16(20) }),
      [2] = op("setup_table", 24, G, { { "dom", 0, "u16" }, { "nr_frames", 4, "u32" }, status16(8) }),
      [4] = op("transfer", 24, G, { { "mfn", 0, "u64", hex = true }, { "dom", 8, "u16" }, { "ref", 12, "u32" }, status16(16) }),
      [5] = op("copy", 40, G, { { "source_ref", 0, "u32" }, { "source_dom", 8, "u16" }, { "source_offset", 10, "u16" },
        { "dest_ref", 16, "u32" }, { "dest_dom", 24, "u16" }, { "dest_offset", 26, "u16" }, { "len", 32, "u16" },
        { "copy_flags", 34, "u16", hex = true }, status16(36) }),
      [6] = op("query_size", 16, G, { { "dom", 0, "u16" }, { "nr_frames", 4, "u32" }, { "max_nr_frames", 8, "u32" }, status16(12) }),
      [8] = op("set_version", 4, G, { { "version", 0, "u32" } }),
      [9] = op("get_status_frames", 16, G, { { "nr_frames", 0, "u32" }, { "dom", 4, "u16" }, status16(6) }),
      [10] = op("get_version", 8, G, { { "dom", 0, "u16" }, { "version", 4, "u32" } }),
      [3] = op("dump_table", 4), [7] = op("unmap_and_replace", 24), [11] = op("swap_grant_ref", 12), [12] = op("cache_flush", 24),
    },
    [29] = {
      [0] = op("yield", 0), [1] = op("block", 0),
      [2] = op("shutdown", 4, S, { { "reason", 0, "u32", names = SHUTDOWN } }),
      [3] = op("poll", 24), [4] = op("remote_shutdown", 8), [5] = op("shutdown_code", 4), [6] = op("watchdog", 8),
    },
    [32] = {
      [0] = op("bind_interdomain", 12, E, { { "remote_dom", 0, "u16" }, end_of("remote_port", 4), end_of("local_port", 8) }),
      [1] = op("bind_virq", 12, E, { end_of("virq", 0), end_of("vcpu", 4), end_of("port", 8) }),
      [2] = op("bind_pirq", 12), [3] = op("close", 4, E, { end_of("port", 0) }), [4] = op("send", 4, E, { end_of("port", 0) }),
      [5] = op("status", 24, E, { { "dom", 0, "u16" }, end_of("port", 4), { "status", 8, "u32", names = CHANNEL },
        end_of("vcpu", 12), { "remote_dom", 16, "u16" }, end_of("remote_port", 20) }),
      [6] = op("alloc_unbound", 8, E, { { "dom", 0, "u16" }, { "remote_dom", 2, "u16" }, end_of("port", 4) }),
      [7] = op("bind_ipi", 8, E, { end_of("vcpu", 0), end_of("port", 4) }),
      [8] = op("bind_vcpu", 8, E, { end_of("port", 0), end_of("vcpu", 4) }),
      [9] = op("unmask", 4, E, { end_of("port", 0) }),
      [10] = op("reset", 2, E, { { "dom", 0, "u16" } }), [11] = op("init_control", 24), [12] = op("expand_array", 8),
      [13] = op("set_priority", 8, E, { end_of("port", 0), end_of("priority", 4) }),
    },
  }

  local number_field = rw.field(H .. ".number", "u8", { names = xen.HYPERCALL })
  local command_field = rw.field(H .. ".command", "u8")
  local name_field = rw.field(H .. ".name", "string")
  local errno_field = rw.field(H .. ".errno", "u8", { names = ERRNO })
  local bytes_field = rw.field(H .. ".bytes", "bytes")

  local function asked(c, tag, call)
    if c.remembered < rw.MAX_REMEMBERED then
      c.remembered = c.remembered + 1
      c.tags["h" .. rw.dec(tag)] = call
    end
    return nil
  end
  local function replied(c, tag)
    local key = "h" .. rw.dec(tag)
    local call = c.tags[key]
    if call then
      c.tags[key] = nil
      c.remembered = c.remembered - 1
    end
    return call
  end

  --- "event_channel_op alloc_unbound"
  local function call_name(number, command)
    local op_of = OPS[number] and OPS[number][command]
    return rw.name_of(xen.HYPERCALL, number) .. " " .. (op_of and op_of.name or "?" .. rw.dec(command)), op_of
  end

  local function arguments(m, tree, at, length, op_of)
    if tree == nil or length == 0 then return end
    if op_of == nil or op_of.layout == nil or op_of.bytes == 0 then
      tree:add(bytes_field, m.tvb(at, length))
      return
    end
    for i = 0, math.min(math.floor(length / op_of.bytes), 64) - 1 do
      local item = tree:add(rw.entry_field, m.tvb(at + i * op_of.bytes, op_of.bytes))
      item:set_text(op_of.name .. " " .. op_of.layout:words(m, at + i * op_of.bytes))
      op_of.layout:add(m, item, at + i * op_of.bytes, at + (i + 1) * op_of.bytes)
    end
    local rest = length % op_of.bytes
    if rest > 0 then rw.expert(m, tree, "record", rw.dec(rest) .. " bytes behind the last whole argument structure") end
  end

  --- A hypercall: number and command are items { value, range }. Returns its words.
  function xen.hypercall(m, tree, tag, number, command, at, length)
    local name, op_of = call_name(number[1], command[1])
    rw.ask(m, asked, tag, { number[1], command[1] })
    if tree then
      if number[1] < 256 then tree:add(number_field, number[2], number[1]) end
      if command[1] < 256 then tree:add(command_field, command[2], command[1]) end
      tree:add(name_field, name):set_generated()
    end
    arguments(m, tree, at, length, op_of)
    return name .. " bytes=" .. rw.dec(length)
  end

  --- Its reply, whose structures are those of the call with the tag.
  function xen.hypercall_reply(m, tree, tag, errno, at, length)
    local call = rw.ask(m, replied, tag)
    local name, op_of = "", nil
    if call then name, op_of = call_name(call[1], call[2]) end
    if tree then
      if errno[1] < 256 then tree:add(errno_field, errno[2], errno[1]) end
      if call then tree:add(name_field, name):set_generated() end
    end
    arguments(m, tree, at, length, op_of)
    if errno[1] ~= 0 then rw.expert(m, tree, "status", "hypercall failed: " .. rw.name_of(ERRNO, errno[1])) end
    return rw.line(name, errno[1] ~= 0 and rw.name_of(ERRNO, errno[1]), "bytes=" .. rw.dec(length))
  end
end
