-- Ethernet frames inside a batch.
--
-- A frame travels as one record or as several: the pieces of a scatter list, or behind a header
-- that lies in an LLQ entry. The descriptors, completions or slots of the same batch say which
-- pieces belong together, so a frame is shown where its packet is complete, not where its bytes
-- are. What nothing in the batch names is taken for a whole frame.
return function(rw)
  local frames = {}
  rw.frames = frames
  local ethernet = Dissector.get("eth_withoutfcs")
  local length_field = rw.field("ringwire.frame.length", "u32")
  local none = rw.field("ringwire.frame", "none")

  local GRANT = 2 ^ 50 -- keeps the address spaces of a table's keys apart

  --- A record of type frame: `length` bytes at `at` of the message, for `address` of `space`.
  function frames.note(m, space, address, at, length)
    local piece = { from = space * GRANT + address, at = at, length = length, tree = m.column_tree }
    m.pieces[#m.pieces + 1] = piece
    m.piece_at[piece.from] = piece
  end

  -- The piece that holds the byte at `key`.
  local function find(m, key)
    local piece = m.piece_at[key]
    if piece then return piece end
    -- A buffer that begins inside a piece is rare; only so many are looked through.
    for i = #m.pieces, math.max(1, #m.pieces - 64), -1 do
      piece = m.pieces[i]
      if key >= piece.from and key < piece.from + piece.length then return piece end
    end
    return nil
  end

  --- Appends to `parts` where the bytes of a buffer lie in this message. False when they don't.
  function frames.gather(m, parts, space, address, length)
    local key = space * GRANT + address
    while length > 0 do
      local piece = find(m, key)
      if piece == nil then return false end
      local skip = key - piece.from
      local n = math.min(length, piece.length - skip)
      piece.taken = true
      parts[#parts + 1] = { piece.at + skip, n }
      key, length = key + n, length - n
    end
    return true
  end

  --- For completions whose buffer is not known: the next piece not taken, if it has that length.
  function frames.gather_next(m, parts, length)
    local i = m.next_piece or 1
    while m.pieces[i] and m.pieces[i].taken do i = i + 1 end
    m.next_piece = i
    local piece = m.pieces[i]
    if piece == nil or piece.length ~= length then return false end
    piece.taken = true
    parts[#parts + 1] = { piece.at, piece.length }
    return true
  end

  --- Hands the bytes of `parts` to the Ethernet dissector, in a branch of `tree`.
  function frames.show(m, tree, parts, title)
    if not tree or not rw.prefs.frames or m.frames >= rw.prefs.max_frames or #parts == 0 then return end
    local total = 0
    for _, part in ipairs(parts) do
      if part[1] + part[2] > m.limit then return end
      total = total + part[2]
    end
    if total < 14 or total > 0x20000 then return end
    m.frames = m.frames + 1
    local tvb
    local first = parts[1]
    if #parts == 1 then tvb = m.tvb(first[1], first[2]):tvb()
    else
      local bytes = m.tvb(first[1], first[2]):bytes()
      for i = 2, #parts do bytes = bytes .. m.tvb(parts[i][1], parts[i][2]):bytes() end
      tvb = bytes:tvb(title)
    end
    local branch = tree
    if m.detail then
      branch = tree:add(none, m.tvb(first[1], first[2]))
      branch:set_text(string.format("%s, %.0f bytes", title, total))
      branch:add(length_field, total):set_generated()
    end
    -- A frame that ends too early raises; Wireshark has marked it by then.
    pcall(ethernet.call, ethernet, tvb, m.pinfo, branch)
  end

  --- At the end of a batch: pieces that nothing named.
  function frames.rest(m, tree)
    if m.partial_frames then return end
    for _, piece in ipairs(m.pieces) do
      if not piece.taken then
        frames.show(m, piece.tree or tree, { { piece.at, piece.length } }, "Frame")
      end
      if m.frames >= rw.prefs.max_frames then return end
    end
  end
end
