-- Wireshark dissector of ringwire: batches of ENA and Xen ring transactions.
--
--   TCP ── HTTP upgrade ── WebSocket, subprotocol ringwire.v1 ──┐
--   link type 252, exported PDU "ringwire.batch" ── header ─────┼──► batch ──► transactions
--   link type 147, USER0 ────────────────────────── header ─────┘
--
--   wireshark -X lua_script:ringwire.lua FILE
--
-- or copy this file and the folder ringwire/ beside it to the personal plugin folder (Help, About,
-- Folders). README.md lists the filters. Every part is a function over `rw`, so a part that is
-- loaded by itself does nothing. Written for Lua 5.2 to 5.4.

local here = __DIR__
if here == nil or here == "" then here = debug.getinfo(1, "S").source:match("^@(.*)[/\\][^/\\]*$") or "." end

local rw = {
  prefs = { frames = true, max_frames = 64, max_items = 512 },
}
for _, part in ipairs({ "catalogue", "fields", "msgpack", "state", "frames", "ena_names", "ena_features", "ena_admin",
  "ena_registers", "ena_io", "xen_ring", "xen_grant", "xen_hypercall", "xen_xenstore", "column", "wire",
  "link_state" }) do
  assert(loadfile(here .. "/ringwire/" .. part .. ".lua"))()(rw)
end

local ringwire = Proto("ringwire", "Ringwire")
local capture = Proto("ringwire.batch", "Ringwire capture")

local direction_field = rw.field("ringwire.direction", "u8", { names = { [0] = "frontend to device", [1] = "device to frontend" } })
local epoch_field = rw.field("ringwire.epoch", "u32")
local personality_field = rw.field("ringwire.personality", "u8", { names = { [0] = "ena", [1] = "xen", [255] = "unknown" } })
local snapshot_field = rw.field("ringwire.snapshot", "bool", { bits = 8, mask = 1 })
local version_field = rw.field("ringwire.capture_version", "u8")

local words_field = rw.field("ringwire.words", "string")

local experts = {}
for _, item in pairs(rw.experts) do experts[#experts + 1] = item end
ringwire.fields = rw.fields
ringwire.experts = experts

local prefs = ringwire.prefs
prefs.frames = Pref.bool("Dissect Ethernet frames", true, "Hand the frames inside a batch to the Ethernet dissector")
prefs.max_frames = Pref.uint("Frames of a batch", 64, "How many frames of one batch are handed on")
prefs.max_items = Pref.uint("Items of a batch", 512,
  "How many transactions, how many records and how many ring entries of one batch are shown")
prefs.port = Pref.uint("TCP port", 0,
  "A TCP port whose WebSockets are ringwire, for captures that lack the handshake; it needs Decode As, WebSocket too; 0: none")

function ringwire.prefs_changed()
  rw.prefs.frames, rw.prefs.max_frames, rw.prefs.max_items = prefs.frames, prefs.max_frames, prefs.max_items
end

-- Fields of other dissectors, of the packet at hand: the last value is that of the innermost layer.
local tcp_stream, ws_mask = Field.new("tcp.stream"), Field.new("websocket.mask")
local interface_id, drop_count = Field.new("frame.interface_id"), Field.new("frame.drop_count")
local interface_name = Field.new("frame.interface_name")
-- Files behind each other in one number their interfaces each from 0. Since Wireshark 4.0.
local has_sections, section_number = pcall(Field.new, "frame.section_number")

local infos = {} -- texts of earlier messages of a packet

-- Bytes that a capture of the port has missed: TCP's analysis finds the gap, or an acknowledgement
-- of bytes that were not captured. Such packets may complete no message, so every packet is checked
-- after its dissection. By stream: the packet in which a gap was found and not yet reported.
local lost_segment, ack_lost_segment = Field.new("tcp.analysis.lost_segment"), Field.new("tcp.analysis.ack_lost_segment")
local gaps = {}
local watch = Proto("ringwire.gaps", "Ringwire, gaps in a capture of TCP")

local function stream_of()
  local stream = tcp_stream()
  return stream and tostring(stream.value) or "0"
end

function watch.dissector(_, pinfo)
  if pinfo.visited or not (lost_segment() or ack_lost_segment()) then return end
  local stream = stream_of()
  if gaps[stream] ~= -pinfo.number then gaps[stream] = pinfo.number end
end

-- Returns whether bytes were missed since the stream's last message. Called in the first pass.
local function has_gap(pinfo)
  local stream = stream_of()
  if not (lost_segment() or ack_lost_segment()) and (gaps[stream] or 0) <= 0 then return false end
  gaps[stream] = -pinfo.number
  return true
end

--- Wireshark opens a new file, or the same file again.
function ringwire.init()
  rw.reset_state()
  infos, gaps = {}, {}
end

local INFO_BYTES = 400

-- Sets the Info column: a packet of TCP may hold several messages.
local function set_info(pinfo, ordinal, text)
  if #text > INFO_BYTES then text = text:sub(1, INFO_BYTES) .. " ..." end
  local before = ordinal > 1 and infos.number == pinfo.number and infos.text
  if before and #before < 4 * INFO_BYTES then text = before .. " | " .. text end
  infos.number, infos.text = pinfo.number, text
  pinfo.cols.protocol:clear_fence()
  pinfo.cols.protocol = "Ringwire"
  pinfo.cols.info:clear_fence()
  pinfo.cols.info = text
end

-- Returns the direction of a message without its own header. A client masks, a server does not
-- (RFC 6455, 5.1).
local function ws_direction()
  local masks = { ws_mask() }
  local last = masks[#masks]
  return last and last.value and "out" or "in", #masks
end

-- Walks the transactions. Raises malformed errors.
local function walk(m, words)
  local kind, count, _, at = rw.msgpack.item(m, m.start, "batch")
  if kind ~= "array" then rw.msgpack.malformed("batch: expected an array, found " .. kind, m.start) end
  if count == 0 then words[1] = "an empty batch" end
  for i = 0, count - 1 do
    local said
    m.tree = nil
    said, at = rw.transaction(m, i, at)
    if #words < 16 then words[#words + 1] = said else m.untold = (m.untold or 0) + 1 end
  end
  m.tree = nil
  if at < m.limit then
    m.root:add(rw.trailing_field, m.tvb(at, m.limit - at))
    rw.msgpack.malformed("batch: " .. rw.dec(m.limit - at) .. " bytes after its end", at)
  end
end

-- One message, from byte `start`: a batch, or where `direction` is nil a part of a state record.
-- `place` is { connection, message within the file, ordinal in the packet }; `old_snapshot` when it
-- is a batch that was never sent, with which captures of older programs begin.
local function dissect_message(tvb, start, pinfo, root, direction, place, old_snapshot)
  local m = {
    tvb = tvb, start = start, visible = root.visible, detail = rw.wants_detail(root), pinfo = pinfo, root = root, direction = direction or "out",
    old_snapshot = old_snapshot, unjudged = old_snapshot,
    limit = tvb:len(), reported = tvb:reported_len(), cut = tvb:len() < tvb:reported_len(),
    experts = 0, shown = {}, hidden = {}, frames = 0, pieces = {}, piece_at = {},
  }
  rw.begin_message(m, place[1], place[2], pinfo.visited)
  local dropped = drop_count()
  if place.gap or dropped and dropped.value ~= UInt64.new(0) then rw.lost(m) end

  -- Frames inside a batch set addresses and ports. Those of the packet are restored.
  local src, dst, src_port, dst_port = pinfo.src, pinfo.dst, pinfo.src_port, pinfo.dst_port
  local words = {}
  local ok, err = pcall(direction and walk or rw.link_state, m, words)
  if ok then ok, err = pcall(rw.frames.rest, m, root) end
  if not ok then
    rw.lost(m)
    m.experts = 0 -- the error that ends the message is always reported
    local tree = m.tree or root
    if type(err) ~= "table" then
      rw.expert(m, tree, "internal", tostring(err))
      words[#words + 1] = "! the dissector failed"
    elseif err.cut then
      rw.expert(m, tree, "cut", string.format("%.0f of %.0f bytes were captured",
        m.limit - start, m.reported - start))
      words[#words + 1] = "! cut short by the capture"
    else
      rw.expert(m, tree, "malformed", err.malformed .. " (byte " .. rw.dec(err.at - start) .. ")")
      words[#words + 1] = "! " .. err.malformed
    end
  end
  local hidden = rw.hidden(m)
  if hidden then rw.expert(m, root, "bounded", hidden .. " are not shown") end
  if (m.ext or 0) > 0 then rw.expert(m, root, "ext", rw.dec(m.ext) .. " msgpack extensions") end
  pinfo.src, pinfo.dst, pinfo.src_port, pinfo.dst_port = src, dst, src_port, dst_port

  local joined = table.concat(words, "; ")
  root:add(words_field, joined):set_generated()
  local arrow = direction == "out" and "-> " or direction == "in" and "<- " or ""
  local text = arrow .. joined
  if m.untold then text = text .. "; " .. rw.dec(m.untold) .. " more transactions" end
  root:append_text(", " .. text:sub(1, INFO_BYTES))
  set_info(pinfo, place[3], text)
end

--- A message of a WebSocket: the batch alone.
function ringwire.dissector(tvb, pinfo, tree)
  if tvb:len() == 0 then return 0 end
  local direction, ordinal = ws_direction()
  local root = tree:add(ringwire, tvb())
  root:add(direction_field, direction == "out" and 0 or 1):set_generated()
  local place = { "tcp " .. stream_of(), pinfo.number .. "/" .. ordinal, ordinal }
  place.gap = not pinfo.visited and has_gap(pinfo)
  dissect_message(tvb, 0, pinfo, root, direction, place)
  return tvb:len()
end

-- Source and Destination: a batch has no addresses, but the NIC whose link it crossed has a name.
local function set_ends(pinfo, direction)
  local interface = interface_name()
  local nic = interface and tostring(interface.value):gsub(":ring$", "") or "frontend"
  pinfo.cols.src = direction == "in" and "device" or nic
  if direction then pinfo.cols.dst = direction == "in" and nic or "device" end
end

local HEADER = 16

--- A packet of a ring capture: the pseudo header of shared/capture, then a batch or a part of a
--- state record, which has no direction.
function capture.dissector(tvb, pinfo, tree)
  local root = tree:add(ringwire, tvb())
  pinfo.cols.protocol = "Ringwire"
  if tvb:len() < HEADER or tvb:raw(0, 2) ~= "RW" then
    root:add_proto_expert_info(rw.experts.malformed, "the header of a ring capture is missing")
    pinfo.cols.info = "! the header of a ring capture is missing"
    return tvb:len()
  end
  root:add(version_field, tvb(2, 1))
  local flags = tvb(9, 1):uint()
  local is_snapshot, is_state = rw.bit(flags, 0) == 1, rw.bit(flags, 1) == 1
  if not is_state then root:add(direction_field, tvb(3, 1)) end
  root:add_le(epoch_field, tvb(4, 4))
  root:add(personality_field, tvb(8, 1))
  root:add(snapshot_field, tvb(9, 1))
  local direction = not is_state and (tvb(3, 1):uint() == 0 and "out" or "in") or nil
  set_ends(pinfo, direction)
  local interface = interface_id()
  local section = has_sections and section_number()
  local key = string.format("ring %s %s %.0f", tostring(section and section.value or 0),
    tostring(interface and interface.value or 0), tvb(4, 4):le_uint())
  if tvb:len() == HEADER then
    root:add_proto_expert_info(rw.experts.cut, "no byte of the batch was captured")
    pinfo.cols.info = "! cut short by the capture"
    return HEADER
  end
  dissect_message(tvb, HEADER, pinfo, root, direction, { key, tostring(pinfo.number), 1 },
    is_snapshot and not is_state)
  return tvb:len()
end

register_postdissector(watch)
DissectorTable.get("ws.protocol"):add("ringwire.v1", ringwire)
-- Without the handshake the WebSocket dissector knows no subprotocol, and asks its heuristics.
ringwire:register_heuristic("ws", function(tvb, pinfo, tree)
  local port = prefs.port
  if port == 0 or (pinfo.src_port ~= port and pinfo.dst_port ~= port) then return false end
  ringwire.dissector(tvb, pinfo, tree)
  return true
end)
DissectorTable.get("wtap_encap"):add(wtap.USER0, capture)
