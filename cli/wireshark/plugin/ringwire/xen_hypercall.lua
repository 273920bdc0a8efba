-- Hypercalls: their numbers, commands and argument structures.
-- Source: xen: xen/include/public/grant_table.h, event_channel.h, sched.h.
return function(rw)
  local xen = rw.xen
  local H = "ringwire.hypercall"
  xen.HYPERCALL = { [20] = "grant_table_op", [29] = "sched_op", [32] = "event_channel_op" }
  local ERRNO = { [0] = "ok", [1] = "EPERM", [2] = "ENOENT", [3] = "ESRCH", [5] = "EIO", [6] = "ENXIO", [7] = "E2BIG",
    [8] = "ENOEXEC", [9] = "EBADF", [10] = "ECHILD", [11] = "EAGAIN", [12] = "ENOMEM", [13] = "EACCES",
    [14] = "EFAULT", [16] = "EBUSY", [17] = "EEXIST", [18] = "EXDEV", [19] = "ENODEV", [20] = "ENOTDIR",
    [21] = "EISDIR", [22] = "EINVAL", [23] = "ENFILE", [24] = "EMFILE", [28] = "ENOSPC", [30] = "EROFS",
    [34] = "ERANGE", [38] = "ENOSYS", [39] = "ENOTEMPTY", [61] = "ENODATA", [95] = "EOPNOTSUPP" }
  local GNTST = xen.GNTST
  local G, E, S = "ringwire.gnttab", "ringwire.evtchn", "ringwire.sched"
  local SHUTDOWN = { [0] = "POWEROFF", [1] = "REBOOT", [2] = "SUSPEND", [3] = "CRASH", [4] = "WATCHDOG", [5] = "SOFT_RESET" }
  local CHANNEL = { [0] = "CLOSED", [1] = "UNBOUND", [2] = "INTERDOMAIN", [3] = "PIRQ", [4] = "VIRQ", [5] = "IPI" }
  local DOMID = { [0x7ff0] = "SELF", [0x7ff1] = "IO", [0x7ff2] = "XEN", [0x7ff3] = "COW", [0x7ff4] = "INVALID",
    [0x7ff5] = "ANY", [0x7fff] = "IDLE" }

  --- "SELF", or the guest's number.
  function xen.domain(domid) return DOMID[domid] or rw.dec(domid) end

  -- A command: its name, the bytes of one argument structure, and the layout of those that the
  -- guest of a NIC makes.
  local function op(name, bytes, prefix, fields)
    return { name = name, bytes = bytes, layout = fields and rw.layout(prefix, fields) }
  end
  local function status16(at) return { "status", at, "i16", names = GNTST } end
  local function u32(name, at) return { name, at, "u32" } end
  local function dom(name, at) return { name, at, "u16", say = xen.domain } end
  local function address(name, at) return { name, at, "u64", hex = true } end
  local OPS = {
    [20] = {
      [0] = op("MAP_GRANT_REF", 32, G, { address("host_addr", 0), { "flags", 8, "u32", hex = true }, u32("ref", 12),
        dom("dom", 16), status16(18), u32("handle", 20), address("dev_bus_addr", 24) }),
      [1] = op("UNMAP_GRANT_REF", 24, G, { address("host_addr", 0), address("dev_bus_addr", 8), u32("handle", 16),
        status16(20) }),
      [2] = op("SETUP_TABLE", 24, G, { dom("dom", 0), u32("nr_frames", 4), status16(8), address("frame_list", 16) }),
      [3] = op("DUMP_TABLE", 4),
      [4] = op("TRANSFER", 24, G, { address("mfn", 0), dom("domid", 8), u32("ref", 12), status16(16) }),
      [5] = op("COPY", 40, G, { u32("source_ref", 0), u32("source_frame_high", 4), dom("source_domid", 8),
        { "source_offset", 10, "u16" }, u32("dest_ref", 16), u32("dest_frame_high", 20), dom("dest_domid", 24),
        { "dest_offset", 26, "u16" }, { "len", 32, "u16" }, { "flags", 34, "u16", hex = true, as = G .. ".copy_flags" },
        status16(36) }),
      [6] = op("QUERY_SIZE", 16, G, { dom("dom", 0), u32("nr_frames", 4), u32("max_nr_frames", 8), status16(12) }),
      [7] = op("UNMAP_AND_REPLACE", 24),
      [8] = op("SET_VERSION", 4, G, { u32("version", 0) }),
      [9] = op("GET_STATUS_FRAMES", 16, G, { u32("nr_frames", 0), dom("dom", 4), status16(6), address("frame_list", 8) }),
      [10] = op("GET_VERSION", 8, G, { dom("dom", 0), u32("version", 4) }),
      [11] = op("SWAP_GRANT_REF", 12), [12] = op("CACHE_FLUSH", 24),
    },
    [29] = {
      [0] = op("YIELD", 0), [1] = op("BLOCK", 0), [3] = op("POLL", 24),
      [2] = op("SHUTDOWN", 4, S, { { "reason", 0, "u32", names = SHUTDOWN } }),
    },
    [32] = {
      [0] = op("BIND_INTERDOMAIN", 12, E, { dom("remote_dom", 0), u32("remote_port", 4), u32("local_port", 8) }),
      [1] = op("BIND_VIRQ", 12), [2] = op("BIND_PIRQ", 12), [7] = op("BIND_IPI", 8),
      [3] = op("CLOSE", 4, E, { u32("port", 0) }), [4] = op("SEND", 4, E, { u32("port", 0) }),
      [5] = op("STATUS", 24, E, { dom("dom", 0), u32("port", 4), { "status", 8, "u32", names = CHANNEL },
        u32("vcpu", 12), dom("remote_dom", 16), u32("remote_port", 20) }),
      [6] = op("ALLOC_UNBOUND", 8, E, { dom("dom", 0), dom("remote_dom", 2), u32("port", 4) }),
      [8] = op("BIND_VCPU", 8, E, { u32("port", 0), u32("vcpu", 4) }),
      [9] = op("UNMASK", 4, E, { u32("port", 0) }),
      [10] = op("RESET", 2, E, { dom("dom", 0) }),
      [11] = op("INIT_CONTROL", 24), [12] = op("EXPAND_ARRAY", 8), [13] = op("SET_PRIORITY", 8),
    },
  }
  local MAX_TOLD, MAX_SHOWN = 4, 64

  local number_field = rw.field(H .. ".number", "u8", { names = xen.HYPERCALL })
  local command_field = rw.field(H .. ".command", "u8")
  local name_field = rw.field(H .. ".name", "string")
  local errno_field = rw.field(H .. ".errno", "u8", { names = ERRNO })
  local bytes_field = rw.field(H .. ".bytes", "bytes")

  -- Shows the structures and returns them in words: "event_channel_op ALLOC_UNBOUND dom=SELF ...".
  local function call_words(m, tree, number, command, at, length)
    if xen.HYPERCALL[number] == nil then
      if tree and length > 0 then tree:add(bytes_field, m.tvb(at, length)) end
      return string.format("hypercall %.0f command=%.0f bytes=%.0f", number, command, length)
    end
    local call = OPS[number] and OPS[number][command]
    local head = xen.HYPERCALL[number] .. " " .. (call and call.name or "?" .. rw.dec(command))
    if tree then tree:add(name_field, head):set_generated() end
    if call == nil or call.layout == nil then
      if tree and length > 0 then tree:add(bytes_field, m.tvb(at, length)) end
      return head .. " bytes=" .. rw.dec(length)
    end
    local size = call.bytes
    if length < size then
      rw.expert(m, tree, "record", head .. ": " .. rw.dec(length) .. " bytes of arguments, " .. size .. " are needed")
      return string.format("%s truncated: %.0f of %d bytes", head, length, size)
    end
    local count, told = math.floor(length / size), {}
    for i = 0, math.min(count, MAX_SHOWN) - 1 do
      local from = at + i * size
      local words = call.layout:words(m, from)
      if i < MAX_TOLD then told[#told + 1] = words end
      rw.entry(m, tree, from, size, call.name .. " " .. words, call.layout)
    end
    if count > MAX_TOLD then told[#told + 1] = (count - MAX_TOLD) .. " more" end
    if length % size ~= 0 then
      rw.expert(m, tree, "record", rw.dec(length % size) .. " bytes behind the last whole argument structure")
      told[#told + 1] = rw.dec(length % size) .. " bytes behind"
    end
    return rw.line(head, table.concat(told, "; "))
  end

  -- Shows the field `name` of a transaction, if it fits a byte.
  local function show(tree, field, v, name)
    if tree and v[name] < 256 then tree:add(field, v.ranges[name], v[name]) end
  end

  --- A hypercall, given the fields of its transaction by name. Returns its words.
  function xen.hypercall(m, tree, v)
    rw.ask(m, rw.remember, "tags", "h" .. rw.dec(v.tag), { v.number, v.command })
    show(tree, number_field, v, "number")
    show(tree, command_field, v, "command")
    return call_words(m, tree, v.number, v.command, v.bytes[1], v.bytes[2])
  end

  --- Its reply, whose structures are those of the call with the tag.
  function xen.hypercall_reply(m, tree, v)
    local call = rw.ask(m, rw.recall, "tags", "h" .. rw.dec(v.tag))
    local at, length = v.bytes[1], v.bytes[2]
    show(tree, errno_field, v, "errno")
    local outcome = rw.name_of(ERRNO, v.errno)
    if v.errno ~= 0 then rw.expert(m, tree, "status", "hypercall failed: " .. outcome) end
    if call == nil or length == 0 then
      if tree and length > 0 then tree:add(bytes_field, m.tvb(at, length)) end
      return outcome .. " bytes=" .. rw.dec(length)
    end
    return outcome .. " " .. call_words(m, tree, call[1], call[2], at, length)
  end
end
