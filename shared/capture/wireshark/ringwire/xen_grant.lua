-- Grants as transactions carry them.
-- Source: xen: xen/include/public/grant_table.h; records: shared/wire/README.md.
return function(rw)
  local xen = rw.xen
  local G = "ringwire.grant"
  local TYPE = { [0] = "invalid", [1] = "permit_access", [2] = "accept_transfer", [3] = "transitive" }
  xen.GNTST = { [0] = "OKAY", [-1] = "general_error", [-2] = "bad_domain", [-3] = "bad_gntref", [-4] = "bad_handle",
    [-5] = "bad_virt_addr", [-6] = "bad_dev_addr", [-7] = "no_device_space", [-8] = "permission_denied",
    [-9] = "bad_page", [-10] = "bad_copy_arg", [-11] = "address_too_big", [-12] = "eagain", [-13] = "no_space" }
  local function bit(name, n) return { name, 4, "bool", bytes = 2, mask = 2 ^ n } end

  local common = {
    { "ref", 0, "u32" }, { "flags", 4, "u16", hex = true }, { "type", 4, "u16", mask = 3, names = TYPE },
    bit("readonly", 2), bit("reading", 3), bit("writing", 4), bit("sub_page", 8), { "domid", 6, "u16" } }
  local function with(...)
    local fields = {}
    for _, spec in ipairs(common) do fields[#fields + 1] = spec end
    for _, spec in ipairs({ ... }) do fields[#fields + 1] = spec end
    return rw.layout(G, fields)
  end
  -- Grant references are numbers of 32 bits, frames of 32 in version 1 and 64 in version 2.
  local v1 = with({ "frame", 8, "u32", hex = true, as = G .. ".frame32", label = "frame" })
  local v2 = with({ "frame", 12, "u64", hex = true })
  local v2_sub = with({ "page_off", 8, "u16" }, { "length", 10, "u16" }, { "frame", 12, "u64", hex = true })
  local v2_trans = with({ "trans_domid", 8, "u16" }, { "trans_gref", 12, "u32" })
  local ended = rw.layout(G, { { "ref", 0, "u32" } })
  local used = rw.layout(G, { { "ref", 0, "u32" }, { "readers", 4, "i16" }, { "writers", 6, "i16" } })

  local function granted(c, ref, frame)
    if c.grants[ref] == nil then
      if c.remembered >= rw.MAX_REMEMBERED then return nil end
      c.remembered = c.remembered + 1
    end
    c.grants[ref] = { frame = frame }
    return nil
  end
  local function grant_ended(c, ref)
    if c.grants[ref] then
      c.grants[ref] = nil
      c.remembered = c.remembered - 1
    end
    return nil
  end

  xen.GRANT_BYTES = { [1] = 12, [2] = 20 }

  --- One record of `grant`. Returns "ref=8 frame=0x12345 readonly".
  function xen.grant(m, tree, at, version)
    local ref, flags = rw.u32(m, at), rw.u16(m, at + 4)
    local kind, sub = flags % 4, rw.bit(flags, 8) == 1
    local layout = version == 1 and v1 or kind == 3 and v2_trans or sub and v2_sub or v2
    local frame = version == 1 and rw.u32(m, at + 8) or rw.u64(m, at + 12)
    rw.ask(m, granted, ref, frame)
    local words = string.format("ref=%.0f domid=%.0f frame=%s%s", ref, rw.u16(m, at + 6), rw.hex(frame),
      rw.bit(flags, 2) == 1 and " readonly" or "")
    if tree then
      local item = tree:add(rw.entry_field, m.tvb(at, xen.GRANT_BYTES[version]))
      item:set_text("grant " .. words)
      layout:add(m, item, at, at + xen.GRANT_BYTES[version])
    end
    return words
  end

  --- One record of `end_grant`.
  function xen.end_grant(m, tree, at)
    local ref = rw.u32(m, at)
    rw.ask(m, grant_ended, ref)
    if tree then
      local item = tree:add(rw.entry_field, m.tvb(at, 4))
      item:set_text("end grant ref=" .. rw.dec(ref))
      ended:add(m, item, at, at + 4)
    end
    return "ref=" .. rw.dec(ref)
  end

  --- One record of `grant_use`: changes of the counts of readers and writers.
  function xen.grant_use(m, tree, at)
    local words = string.format("ref=%.0f readers%+d writers%+d", rw.u32(m, at), rw.i16(m, at + 4), rw.i16(m, at + 6))
    if tree then
      local item = tree:add(rw.entry_field, m.tvb(at, 8))
      item:set_text("use " .. words)
      used:add(m, item, at, at + 8)
    end
    return words
  end
end
