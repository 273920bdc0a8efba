-- Bodies of GET_FEATURE, SET_FEATURE and GET_STATS, and the buffers that commands point to.
-- Layouts: shared/ena/features.ts, llq.ts, rss.ts, stats.ts, host-info.ts.
return function(rw)
  local ena = rw.ena
  local function feature(name, fields) return rw.layout("ringwire.ena.feature." .. name, fields) end

  ena.BODY = {
    [1] = feature("device_attributes", {
      { "impl_id", 0, "u32" }, { "device_version", 4, "u32" },
      { "supported_features", 8, "u32", hex = true }, { "capabilities", 12, "u32", hex = true },
      { "phys_addr_width_bits", 16, "u32" }, { "virt_addr_width_bits", 20, "u32" },
      { "mac_addr", 24, "mac" }, { "flow_steering_max_entries", 30, "u16" }, { "max_mtu", 32, "u32" } }),
    [2] = feature("max_queues", {
      { "max_sq_num", 0, "u32" }, { "max_sq_depth", 4, "u32" }, { "max_cq_num", 8, "u32" },
      { "max_cq_depth", 12, "u32" }, { "max_legacy_llq_num", 16, "u32" },
      { "max_legacy_llq_depth", 20, "u32" }, { "max_header_size", 24, "u32" },
      { "max_packet_tx_descs", 28, "u16" }, { "max_packet_rx_descs", 30, "u16" } }),
    [3] = feature("hw_hints", {
      { "mmio_read_timeout_ms", 0, "u16" }, { "driver_watchdog_timeout_ms", 2, "u16" },
      { "missing_tx_completion_timeout_ms", 4, "u16" },
      { "missed_tx_completion_count_threshold_to_reset", 6, "u16" },
      { "admin_completion_timeout_ms", 8, "u16" }, { "netdev_wd_timeout_ms", 10, "u16" },
      { "max_tx_sgl_size", 12, "u16" }, { "max_rx_sgl_size", 14, "u16" } }),
    [4] = feature("llq", {
      { "max_llq_num", 0, "u32" }, { "max_llq_depth", 4, "u32" },
      { "header_location_supported", 8, "u16", hex = true }, { "header_location_enabled", 10, "u16", hex = true },
      { "entry_size_supported", 12, "u16", hex = true }, { "entry_size_enabled", 14, "u16", hex = true },
      { "descs_before_header_supported", 16, "u16", hex = true },
      { "descs_before_header_enabled", 18, "u16", hex = true },
      { "stride_supported", 20, "u16", hex = true }, { "stride_enabled", 22, "u16", hex = true },
      { "feature_version", 24, "u8" }, { "entry_size_recommended", 25, "u8" },
      { "max_wide_llq_depth", 26, "u16" }, { "accel_flags", 28, "u16", hex = true },
      { "max_tx_burst_bytes", 30, "u16" } }),
    [5] = feature("extra_properties_strings", { { "count", 0, "u32" } }),
    [6] = feature("extra_properties_flags", { { "flags", 0, "u32", hex = true } }),
    [7] = feature("max_queues_ext", {
      { "version", 0, "u8" }, { "max_tx_sq_num", 4, "u32" }, { "max_tx_cq_num", 8, "u32" },
      { "max_rx_sq_num", 12, "u32" }, { "max_rx_cq_num", 16, "u32" }, { "max_tx_sq_depth", 20, "u32" },
      { "max_tx_cq_depth", 24, "u32" }, { "max_rx_sq_depth", 28, "u32" }, { "max_rx_cq_depth", 32, "u32" },
      { "max_tx_header_size", 36, "u32" }, { "max_per_packet_tx_descs", 40, "u16" },
      { "max_per_packet_rx_descs", 42, "u16" } }),
    [10] = feature("rss_hash_function", {
      { "supported_func", 0, "u32", mask = 0xff, hex = true },
      { "selected_func", 4, "u32", mask = 0xff, hex = true }, { "init_val", 8, "u32", hex = true } }),
    [11] = feature("stateless_offload", {
      { "tx", 0, "u32", hex = true }, { "rx_supported", 4, "u32", hex = true },
      { "rx_enabled", 8, "u32", hex = true } }),
    [12] = feature("rss_ind_table", {
      { "min_size_log2", 0, "u16" }, { "max_size_log2", 2, "u16" }, { "size_log2", 4, "u16" },
      { "one_entry_update", 6, "bool", bytes = 1, mask = 1 }, { "inline_index", 8, "u32", hex = true },
      { "inline_cq_idx", 12, "u16" } }),
    [14] = feature("mtu", { { "mtu", 0, "u32" } }),
    [18] = feature("rss_hash_input", {
      { "supported_input_sort", 0, "u16", hex = true }, { "enabled_input_sort", 2, "u16", hex = true } }),
    [20] = feature("intr_moderation", { { "intr_delay_resolution_us", 0, "u16" } }),
    [26] = feature("aenq_config", {
      { "supported_groups", 0, "u32", hex = true }, { "enabled_groups", 4, "u32", hex = true } }),
    [27] = feature("link_config", {
      { "speed_mbit", 0, "u32" }, { "supported", 4, "u32", hex = true },
      { "autoneg", 8, "bool", bytes = 4, mask = 1 }, { "full_duplex", 8, "bool", bytes = 4, mask = 2 } }),
    [28] = feature("host_attr", {
      { "os_info_ba", 0, "u48" }, { "debug_ba", 8, "u48" }, { "debug_area_size", 16, "u32" } }),
    [29] = feature("phc_config", {
      { "version", 0, "u8" }, { "doorbell_offset", 4, "u32", hex = true },
      { "expire_timeout_us", 8, "u32" }, { "block_timeout_us", 12, "u32" },
      { "output_address", 16, "u48" }, { "output_length", 24, "u32" } }),
  }
  --- Features whose SET body the tracer puts into words.
  ena.SET_WORDS = { [4] = true, [10] = true, [12] = true, [14] = true, [18] = true, [26] = true,
    [28] = true, [29] = true }

  local function stats(name, fields) return rw.layout("ringwire.ena.stats." .. name, fields) end
  ena.STATS_BODY = {
    [0] = stats("basic", {
      { "tx_bytes", 0, "u64" }, { "tx_pkts", 8, "u64" }, { "rx_bytes", 16, "u64" }, { "rx_pkts", 24, "u64" },
      { "rx_drops", 32, "u64" }, { "tx_drops", 40, "u64" }, { "rx_overruns", 48, "u64" } }),
    [2] = stats("eni", {
      { "bw_in_allowance_exceeded", 0, "u64" }, { "bw_out_allowance_exceeded", 8, "u64" },
      { "pps_allowance_exceeded", 16, "u64" }, { "conntrack_allowance_exceeded", 24, "u64" },
      { "linklocal_allowance_exceeded", 32, "u64" } }),
    [3] = stats("ena_srd", {
      { "enabled", 0, "bool", bytes = 4, mask = 1 }, { "udp_enabled", 0, "bool", bytes = 4, mask = 2 },
      { "udp_ordering_bypass_enabled", 0, "bool", bytes = 4, mask = 4 }, { "tx_pkts", 8, "u64" },
      { "eligible_tx_pkts", 16, "u64" }, { "rx_pkts", 24, "u64" }, { "resource_utilization", 32, "u64" } }),
    [4] = stats("customer_metrics", { { "reported_metrics", 0, "u64", hex = true } }),
  }

  local host = rw.layout("ringwire.ena.host_info", {
    { "os_type", 0, "u32", names = ena.OS }, { "os_dist_str", 4, "text", length = 128 },
    { "os_dist", 132, "u32" }, { "kernel_ver_str", 136, "text", length = 32 },
    { "kernel_ver", 168, "u32" }, { "driver_major", 172, "u32", mask = 0xff },
    { "driver_minor", 172, "u32", mask = 0xff00 }, { "driver_sub_minor", 172, "u32", mask = 0xff0000 },
    { "module_type", 172, "u32", mask = 0xff000000 }, { "ena_spec_version", 184, "u16", hex = true },
    { "pci_function", 186, "u16", mask = 0x7 }, { "pci_device", 186, "u16", mask = 0xf8 },
    { "pci_bus", 186, "u16", mask = 0xff00 }, { "num_cpus", 188, "u16" },
    { "driver_supported_features", 192, "u32", hex = true } })

  --- The host information page.
  function ena.host_info(m, tree, at, length) host:add(m, tree, at, at + length) end

  local key = rw.layout("ringwire.ena.control.rss_key", {
    { "key_parts", 0, "u32" }, { "key", 8, "bytes", length = 40 } })
  local entry_field = rw.field("ringwire.ena.control.rss_ind_table.cq_idx", "u16")
  local selected = rw.field("ringwire.ena.control.rss_hash_fields.selected", "u16", { hex = true })
  local supported = rw.field("ringwire.ena.control.rss_hash_fields.supported", "u16", { hex = true })
  local raw = rw.field("ringwire.ena.control.bytes", "bytes")
  local metric = rw.field("ringwire.ena.control.metric", "u64")

  --- A control buffer. `feature` is that of the command that named it, when it came before; a
  --- driver writes a buffer first, and then its length says what it is.
  function ena.control_buffer(m, tree, at, length, feature)
    if not tree then return end
    length = math.min(length, m.limit - at)
    if feature == "metrics" then
      for i = 0, math.floor(length / 8) - 1 do tree:add_le(metric, m.tvb(at + i * 8, 8)) end
    elseif feature == 10 or (feature == nil and length == 48) then key:add(m, tree, at, at + length)
    elseif feature == 18 or (feature == nil and length == 256) then
      for i = 0, 15 do
        for half, field in ipairs({ supported, selected }) do
          local from = at + (half - 1) * 64 + i * 4
          if from + 2 <= at + length then
            tree:add_le(field, m.tvb(from, 2)):append_text(" (" .. rw.name_of(ena.HASH_PROTO, i) .. ")")
          end
        end
      end
    elseif feature == 12 or (feature == nil and length % 4 == 0 and length <= 4096) then
      for i = 0, math.floor(length / 4) - 1 do
        tree:add_le(entry_field, m.tvb(at + i * 4, 2)):append_text(" (entry " .. rw.dec(i) .. ")")
      end
    elseif length > 0 then tree:add(raw, m.tvb(at, length)) end
  end
end
