-- Grants as transactions carry them.
-- Source: xen: xen/include/public/grant_table.h; records: shared/wire/README.md.
return function(rw)
  local xen = rw.xen
  local G = "ringwire.grant"
  local TYPE = { [0] = "INVALID", [1] = "PERMIT_ACCESS", [2] = "ACCEPT_TRANSFER", [3] = "TRANSITIVE" }
  local FLAGS = { { 2, "READONLY" }, { 3, "READING" }, { 4, "WRITING" }, { 5, "PWT" }, { 6, "PCD" }, { 7, "PAT" },
    { 8, "SUB_PAGE" } }
  local TRANSFER_FLAGS = { { 2, "COMMITTED" }, { 3, "COMPLETED" } }
  xen.GNTST = { [0] = "OKAY", [-1] = "GENERAL_ERROR", [-2] = "BAD_DOMAIN", [-3] = "BAD_GNTREF", [-4] = "BAD_HANDLE",
    [-5] = "BAD_VIRT_ADDR", [-6] = "BAD_DEV_ADDR", [-7] = "NO_DEVICE_SPACE", [-8] = "PERMISSION_DENIED",
    [-9] = "BAD_PAGE", [-10] = "BAD_COPY_ARG", [-11] = "ADDRESS_TOO_BIG", [-12] = "EAGAIN", [-13] = "NO_SPACE" }
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

  xen.GRANT_BYTES = { [1] = 12, [2] = 20 }

  -- "PERMIT_ACCESS dom=0 frame=0x12 READONLY"
  local function entry_words(m, at, version, flags, kind, sub, frame)
    local head = TYPE[kind] .. " dom=" .. xen.domain(rw.u16(m, at + 6))
    local rest = flags - kind
    local named = rest ~= 0 and rw.names_of(kind == 2 and TRANSFER_FLAGS or FLAGS, rest)
    if kind == 3 and version ~= 1 then
      return rw.line(head, string.format("by=%s:%.0f", xen.domain(rw.u16(m, at + 8)), rw.u32(m, at + 12)), named)
    end
    local part = version ~= 1 and sub and string.format("bytes=%.0f+%.0f", rw.u16(m, at + 8), rw.u16(m, at + 10))
    return rw.line(head, "frame=" .. rw.hex(frame), part, named)
  end

  --- One record of `grant`. Returns "9 PERMIT_ACCESS dom=0 frame=0x12 READONLY".
  function xen.grant(m, tree, at, version)
    local ref, flags = rw.u32(m, at), rw.u16(m, at + 4)
    local kind, sub = flags % 4, rw.bit(flags, 8) == 1
    local layout = version == 1 and v1 or kind == 3 and v2_trans or sub and v2_sub or v2
    local frame = version == 1 and rw.u32(m, at + 8) or rw.u64(m, at + 12)
    rw.ask(m, rw.remember, "grants", ref, frame)
    local words = rw.dec(ref) .. " " .. entry_words(m, at, version, flags, kind, sub, frame)
    rw.entry(m, tree, at, xen.GRANT_BYTES[version], "grant " .. words, layout)
    return words
  end

  --- One record of `end_grant`.
  function xen.end_grant(m, tree, at)
    local ref = rw.u32(m, at)
    rw.ask(m, rw.recall, "grants", ref)
    rw.entry(m, tree, at, 4, "end grant " .. rw.dec(ref), ended)
    return rw.dec(ref)
  end

  --- One record of `grant_use`: changes of the counts of readers and writers.
  function xen.grant_use(m, tree, at)
    local function change(what, by) return by ~= 0 and string.format("%s%+d", what, by) end
    local words = rw.line(rw.dec(rw.u32(m, at)), change("readers", rw.i16(m, at + 4)), change("writers", rw.i16(m, at + 6)))
    rw.entry(m, tree, at, 8, "use " .. words, used)
    return words
  end
end
