-- The parts of msgpack that a reader needs: where an item's content lies, and where the next
-- begins.
--
-- Every format of the specification (msgpack: spec.md, "Formats") is known; the wire uses a few of
-- them. No input is trusted. An item that ends before its announced end is malformed. The error is
-- a table { malformed = text, at = offset }, which is caught around the whole message.
return function(rw)
  local msgpack = {}
  rw.msgpack = msgpack

  local MAX_DEPTH = 16

  function msgpack.malformed(text, at) error({ malformed = text, at = at }, 0) end

  local function need(m, at, bytes, what)
    if bytes > m.limit - at then
      local cut = m.cut and at + bytes <= m.reported
      error({ malformed = what .. ": the message ends inside it", at = math.min(at, m.limit), cut = cut }, 0)
    end
  end

  local function number(m, at, width, what)
    need(m, at, width, what)
    if width == 8 then return m.tvb(at, 4):uint() * 4294967296 + m.tvb(at + 4, 4):uint() end
    return m.tvb(at, width):uint()
  end

  -- First byte to { kind, width of its length or value }.
  local FORMAT = {
    [0xc4] = { "bin", 1 }, [0xc5] = { "bin", 2 }, [0xc6] = { "bin", 4 },
    [0xc7] = { "ext", 1 }, [0xc8] = { "ext", 2 }, [0xc9] = { "ext", 4 },
    [0xca] = { "float", 4 }, [0xcb] = { "float", 8 },
    [0xcc] = { "uint", 1 }, [0xcd] = { "uint", 2 }, [0xce] = { "uint", 4 }, [0xcf] = { "uint", 8 },
    [0xd0] = { "int", 1 }, [0xd1] = { "int", 2 }, [0xd2] = { "int", 4 }, [0xd3] = { "int", 8 },
    [0xd9] = { "str", 1 }, [0xda] = { "str", 2 }, [0xdb] = { "str", 4 },
    [0xdc] = { "array", 2 }, [0xdd] = { "array", 4 }, [0xde] = { "map", 2 }, [0xdf] = { "map", 4 },
  }

  --- The item at `at`: kind, value, where its content begins, where the next item begins.
  ---   uint, int, float   the number          str, bin, ext   length of the content in bytes
  ---   array, map         number of elements  bool, nil       true, false, nil
  --- Of an array or map the next item is its first element.
  function msgpack.item(m, at, what)
    need(m, at, 1, what)
    local first = m.tvb(at, 1):uint()
    local body = at + 1
    if first < 0x80 then return "uint", first, at, body end
    if first < 0x90 then return "map", first - 0x80, body, body end
    if first < 0xa0 then return "array", first - 0x90, body, body end
    if first < 0xc0 then
      need(m, body, first - 0xa0, what)
      return "str", first - 0xa0, body, body + first - 0xa0
    end
    if first >= 0xe0 then return "int", first - 256, at, body end
    if first == 0xc0 then return "nil", nil, at, body end
    if first == 0xc2 or first == 0xc3 then return "bool", first == 0xc3, at, body end
    if first >= 0xd4 and first <= 0xd8 then
      local length = 2 ^ (first - 0xd4)
      need(m, body, 1 + length, what)
      return "ext", length, body + 1, body + 1 + length
    end
    local format = FORMAT[first]
    if format == nil then msgpack.malformed(what .. ": msgpack format 0xc1", at) end
    local kind, width = format[1], format[2]
    if kind == "uint" then return kind, number(m, body, width, what), body, body + width end
    if kind == "int" then
      local value, top = number(m, body, width, what), 2 ^ (width * 8 - 1)
      if value >= top then value = value - 2 * top end
      -- A signed format of a number that is not negative is a number like any other.
      return value >= 0 and "uint" or "int", value, body, body + width
    end
    if kind == "float" then
      need(m, body, width, what)
      return kind, m.tvb(body, width):float(), body, body + width
    end
    local count = number(m, body, width, what)
    local content = body + width
    if kind == "array" or kind == "map" then return kind, count, content, content end
    if kind == "ext" then content = content + 1 end
    need(m, content, count, what)
    return kind, count, content, content + count
  end

  local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

  --- Text in quotes as JSON writes it; control characters never reach the tree.
  function msgpack.quote(text)
    local plain = text:gsub('[%c"\\]', function(c)
      return ESCAPES[c] or string.format("\\u%04x", c:byte())
    end)
    return '"' .. plain .. '"'
  end

  -- Texts of a message come as raw bytes: what Wireshark shows must be UTF-8, so others show "?".
  local function utf8_or_ascii(text)
    local at, size = 1, #text
    while at <= size do
      local byte = text:byte(at)
      local more = byte < 0x80 and 0 or byte >= 0xc2 and byte < 0xe0 and 1
        or byte >= 0xe0 and byte < 0xf0 and 2 or byte >= 0xf0 and byte < 0xf5 and 3 or -1
      if more < 0 or not text:sub(at + 1, at + more):match("^[\128-\191]*$") or at + more > size then
        return (text:gsub("[\128-\255]", "?"))
      end
      at = at + more + 1
    end
    return text
  end
  msgpack.utf8 = utf8_or_ascii

  --- Length bytes at `at` as printable text.
  function msgpack.text(m, at, length)
    if length == 0 then return "" end
    return utf8_or_ascii(m.tvb:raw(at, length))
  end

  --- A value in words, as JSON has it, and where the next item begins. `seen` gets each key and
  --- value of the outermost map: seen(key, kind, value, at, length).
  function msgpack.words(m, at, what, seen, depth)
    depth = depth or 0
    if depth > MAX_DEPTH then msgpack.malformed(what .. ": nested too deeply", at) end
    local kind, value, content, next = msgpack.item(m, at, what)
    local is_map = kind == "map"
    if not is_map and kind ~= "array" then
      local word
      if kind == "str" then word = msgpack.quote(msgpack.text(m, content, value))
      elseif kind == "uint" or kind == "int" then word = rw.dec(value)
      elseif kind == "bin" then word = string.format("<%.0f bytes>", value)
      elseif kind == "ext" then
        m.ext = (m.ext or 0) + 1
        word = string.format("<extension, %.0f bytes>", value)
      else word = kind == "nil" and "null" or tostring(value) end
      return word, next, kind, content, value
    end
    local words = {}
    -- Each element has at least one byte, so the count can't make this loop longer than the
    -- message.
    for _ = 1, value do
      local word
      if is_map then
        local key, key_kind, key_at, key_length, inner_kind, inner_at, inner
        key, next, key_kind, key_at, key_length = msgpack.words(m, next, what, nil, depth + 1)
        local from = next
        word, next, inner_kind, inner_at, inner = msgpack.words(m, next, what, nil, depth + 1)
        if seen and key_kind == "str" then
          seen(msgpack.text(m, key_at, key_length), inner_kind, inner, inner_at, from, next, word)
        end
        word = key .. ":" .. word
      else
        word, next = msgpack.words(m, next, what, nil, depth + 1)
      end
      if #words < 256 then words[#words + 1] = word end
    end
    local open, close = is_map and "{" or "[", is_map and "}" or "]"
    return open .. table.concat(words, ",") .. close, next, kind, content, value
  end
end
