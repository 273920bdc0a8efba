-- Joins Ethernet frames from their pieces.
--
-- A frame travels as one record or as several: the pieces of a scatter list, or behind a header
-- that lies in an LLQ entry. Descriptors, completions or slots say which pieces belong together, so
-- a frame is shown where its packet is complete, not where its bytes are.
--
-- A long burst is sent in several batches, with its descriptors in the last. So pieces that nothing
-- in their batch names, and packets without their end, are kept for later batches:
--
--   batch   piece ──► not named ──► kept, by direction and address ──► named by a later batch
--   batch   descriptor, not the last ──► open packet ────────────────► its last descriptor
--
-- Kept pieces are bounded (KEPT_BYTES of a direction), and so are the frames that later passes need
-- (JOINED_BYTES of the file). Above the limits the oldest piece, or the frame, is not shown.
return function(rw)
  local frames = {}
  rw.frames = frames
  local ethernet = Dissector.get("eth_withoutfcs")
  local length_field = rw.field("ringwire.frame.length", "u32")
  local none = rw.field("ringwire.frame", "none")

  local GRANT = 2 ^ 50 -- keeps the address spaces of a table's keys apart
  local PAGE = 4096
  local KEPT_BYTES = 2 ^ 20
  local JOINED_BYTES = 2 ^ 26
  local MAX_LOOKED_AT = 64
  local MAX_FRAME, MAX_PIECES, MAX_OPEN = 0x20000, 128, 512

  --- A record of type frame: `length` bytes at `at` of the message, for `address` of `space`.
  function frames.note(m, space, address, at, length)
    local piece = { from = space * GRANT + address, at = at, length = length, tree = m.column_tree }
    m.pieces[#m.pieces + 1] = piece
    m.piece_at[piece.from] = piece
    if space ~= 1 then return end
    -- A record may go on in the pages of the next references, and slots name each page.
    for page = piece.from - address % PAGE + PAGE, piece.from + length - 1, PAGE do m.piece_at[page] = piece end
  end

  -- Questions: see state.lua. ------------------------------------------------------------------

  -- Pieces are kept in a queue from `first` to `last`, and found by where they begin.
  local function kept_of(c, direction)
    local kept = c.kept[direction]
    if kept == nil then
      kept = { first = 1, last = 0, bytes = 0, at = {} }
      c.kept[direction] = kept
    end
    return kept
  end

  local function forget(kept, i)
    local piece = kept[i]
    kept[i] = nil
    kept.bytes = kept.bytes - piece.length
    if kept.at[piece.from] == i then kept.at[piece.from] = nil end
    while kept.first <= kept.last and kept[kept.first] == nil do kept.first = kept.first + 1 end
  end

  local function keep(kept, from, raw)
    kept.last = kept.last + 1
    kept[kept.last] = { from = from, length = #raw, raw = raw }
    kept.at[from] = kept.last
    kept.bytes = kept.bytes + #raw
    while kept.bytes > KEPT_BYTES do forget(kept, kept.first) end
  end

  -- A piece that is taken is on the tape for good.
  local function take(c, kept, i)
    local piece = kept[i]
    forget(kept, i)
    if c.joined.bytes + piece.length > JOINED_BYTES then return nil end
    c.joined.bytes = c.joined.bytes + piece.length
    return piece
  end

  -- The kept piece that holds the byte at `key`.
  local function kept_at(c, direction, key)
    local kept = kept_of(c, direction)
    if kept.at[key] then return take(c, kept, kept.at[key]) end
    for i = kept.last, math.max(kept.first, kept.last - MAX_LOOKED_AT), -1 do
      local piece = kept[i]
      if piece and key > piece.from and key < piece.from + piece.length then return take(c, kept, i) end
    end
    return nil
  end

  -- The oldest kept piece, if it has that length.
  local function kept_next(c, direction, length)
    local kept = kept_of(c, direction)
    local piece = kept[kept.first]
    return piece and piece.length == length and take(c, kept, kept.first) or nil
  end

  -- Returns whether anything names the pieces of a direction: a queue that is known, or was seen.
  local function are_named(c)
    return c.names_frames or next(c.queues) ~= nil or next(c.ring_refs) ~= nil
  end

  local function open_packets(c, direction)
    local open = c.open[direction]
    c.open[direction] = nil
    return open
  end

  local function seen_naming(c) c.names_frames = true end

  -- Packets. -----------------------------------------------------------------------------------

  --- The packets under way on the queues of this direction, by a name of the queue's choice.
  function frames.packets(m)
    if m.packets then return m.packets end
    m.packets = {}
    -- A packet that an earlier batch left open is on the tape, so it is copied and not changed.
    for key, packet in pairs(rw.ask(m, open_packets, m.direction) or {}) do
      local copy = {}
      for name, value in pairs(packet) do
        copy[name] = type(value) == "table" and { (table.unpack or unpack)(value) } or value
      end
      m.packets[key] = copy
    end
    if not m.naming then
      m.naming = true
      rw.ask(m, seen_naming)
    end
    return m.packets
  end

  -- The piece that holds the byte at `key`.
  local function find(m, key)
    local piece = m.piece_at[key]
    if piece then return piece end
    -- A buffer that begins inside a piece is rare, so the search is limited.
    for i = #m.pieces, math.max(1, #m.pieces - MAX_LOOKED_AT), -1 do
      piece = m.pieces[i]
      if key >= piece.from and key < piece.from + piece.length then return piece end
    end
    -- The last kept piece that was taken may hold the next slots of its packet too.
    piece = m.kept_piece
    if piece and key > piece.from and key < piece.from + piece.length then return piece end
    m.kept_piece = rw.ask(m, kept_at, m.direction, key)
    return m.kept_piece
  end

  local function add(parts, piece, skip, n)
    piece.taken = true
    if piece.raw then parts[#parts + 1] = { raw = piece.raw:sub(skip + 1, skip + n), length = n }
    else parts[#parts + 1] = { at = piece.at + skip, length = n } end
  end

  --- Appends to `parts` where the bytes of a buffer lie. False when they are not known.
  function frames.gather(m, parts, space, address, length)
    local key = space * GRANT + address
    while length > 0 do
      local piece = find(m, key)
      if piece == nil then return false end
      local skip = key - piece.from
      local n = math.min(length, piece.length - skip)
      add(parts, piece, skip, n)
      key, length = key + n, length - n
    end
    return true
  end

  --- Appends the next unused piece if it has that length, for completions with an unknown buffer.
  function frames.gather_next(m, parts, length)
    local piece = rw.ask(m, kept_next, m.direction, length)
    if piece == nil then
      local i = m.next_piece or 1
      while m.pieces[i] and m.pieces[i].taken do i = i + 1 end
      m.next_piece = i
      piece = m.pieces[i]
    end
    if piece == nil or piece.length ~= length then return false end
    add(parts, piece, 0, length)
    return true
  end

  --- Hands the bytes of `parts` to the Ethernet dissector, in a branch of `tree`.
  function frames.show(m, tree, parts, title)
    if not tree or not rw.prefs.frames or m.frames >= rw.prefs.max_frames or #parts == 0 then return end
    local total, here = 0, nil
    for _, part in ipairs(parts) do
      if part.at and part.at + part.length > m.limit then return end
      total = total + part.length
      here = here or part.at and part
    end
    if total < 14 or total > MAX_FRAME then return end
    m.frames = m.frames + 1
    local tvb
    local whole = here ~= nil
    if whole and #parts == 1 then tvb = m.tvb(here.at, here.length):tvb()
    else
      local raws = {}
      for i, part in ipairs(parts) do
        raws[i] = part.raw or m.tvb:raw(part.at, part.length)
        whole = whole and part.at ~= nil
      end
      tvb = ByteArray.new(table.concat(raws), true):tvb(title)
    end
    local branch = tree
    if m.detail then
      branch = here and tree:add(none, m.tvb(here.at, here.length)) or tree:add(none)
      branch:set_text(string.format("%s, %.0f bytes%s", title, total, whole and "" or ", begun in an earlier batch"))
      branch:add(length_field, total):set_generated()
    end
    -- A frame that ends too early raises an error. Wireshark has marked the frame before that.
    pcall(ethernet.call, ethernet, tvb, m.pinfo, branch)
  end

  -- Returns the packets that a batch leaves open, with their bytes; nil for none. No honest queue
  -- has more pieces of an open packet, and no honest NIC has more queues.
  local function left_open(m)
    local open, count = nil, 0
    for key, packet in pairs(m.packets or {}) do
      local bytes = 0
      for i, part in ipairs(packet.parts) do
        if part.at and part.at + part.length <= m.limit then
          packet.parts[i] = { raw = m.tvb:raw(part.at, part.length), length = part.length }
        elseif part.at then packet.whole = false end
        bytes = bytes + part.length
      end
      count = count + 1
      local joined = m.connection.joined
      if bytes > MAX_FRAME or #packet.parts > MAX_PIECES or #(packet.slots or {}) > MAX_PIECES
        or count > MAX_OPEN or joined.bytes + bytes > JOINED_BYTES then return nil end
      joined.bytes = joined.bytes + bytes
      open = open or {}
      open[key] = packet
    end
    return open
  end

  --- Ends a batch: keeps its open packets. In a connection where nothing names pieces, each piece
  --- counts as a whole frame.
  function frames.rest(m, tree)
    if m.live and m.packets then m.connection.open[m.direction] = left_open(m) end
    if #m.pieces == 0 or not rw.prefs.frames then return end
    local named = rw.ask(m, are_named)
    for _, piece in ipairs(m.pieces) do
      if piece.taken then -- shown with its packet
      elseif not named then
        if m.frames >= rw.prefs.max_frames then return end
        frames.show(m, piece.tree or tree, { { at = piece.at, length = piece.length } }, "Frame")
      elseif m.live and piece.at + piece.length <= m.limit then
        keep(kept_of(m.connection, m.direction), piece.from, m.tvb:raw(piece.at, piece.length))
      end
    end
  end
end
