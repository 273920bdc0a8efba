-- Made from shared/wire/catalogue.ts by `npm run generate`.
return function(rw)
  --- By opcode: name, then the fields: name, kind, type of a number.
  rw.TRANSACTIONS = {
    [0] = { "hello" },
    [1] = { "welcome" },
    [2] = { "refuse", { "code", "text" }, { "text", "text" } },
    [3] = { "heartbeat", { "sent", "uint", "u64" }, { "echo", "uint", "u64" } },
    [4] = { "progress", { "bytes", "uint", "u64" } },
    [5] = { "fault", { "severity", "uint", "u8" }, { "code", "text" }, { "text", "text" }, { "space", "uint", "u16" }, { "address", "uint", "u64", hex = true } },
    [6] = { "move", { "url", "text" } },
    [16] = { "window", { "address", "uint", "u64", hex = true }, { "length", "uint", "u32" } },
    [17] = { "end_window", { "address", "uint", "u64", hex = true } },
    [18] = { "write", { "data", "bin" }, { "records", "bin" } },
    [19] = { "push", { "data", "bin" }, { "records", "bin" } },
    [20] = { "read", { "tag", "uint", "u32" }, { "space", "uint", "u8" }, { "address", "uint", "u64", hex = true }, { "length", "uint", "u32" } },
    [21] = { "read_reply", { "tag", "uint", "u32" }, { "status", "uint", "u8" }, { "bytes", "bin" } },
    [22] = { "mmio_write", { "data", "bin" }, { "records", "bin" } },
    [23] = { "mmio_read", { "tag", "uint", "u32" }, { "bar", "uint", "u8" }, { "offset", "uint", "u32", hex = true }, { "length", "uint", "u16" } },
    [24] = { "mmio_read_reply", { "tag", "uint", "u32" }, { "bytes", "bin" } },
    [25] = { "interrupt", { "vector", "uint", "u8" } },
    [32] = { "grant", { "version", "uint", "u8" }, { "records", "bin" } },
    [33] = { "end_grant", { "records", "bin" } },
    [34] = { "grant_use", { "records", "bin" } },
    [35] = { "hypercall", { "tag", "uint", "u32" }, { "number", "uint", "u8" }, { "command", "uint", "u8" }, { "bytes", "bin" } },
    [36] = { "hypercall_reply", { "tag", "uint", "u32" }, { "errno", "uint", "u8" }, { "bytes", "bin" } },
    [37] = { "event", { "port", "uint", "u16" } },
    [38] = { "xenstore", { "bytes", "bin" } },
  }
  --- Types of records.
  rw.RECORD_TYPES = {
    [0] = "RAW", [1] = "FRAME", [2] = "REGISTER", [3] = "MMIO_RESPONSE",
    [16] = "ENA_AQ", [17] = "ENA_ACQ", [18] = "ENA_AENQ", [19] = "ENA_TX_DESC",
    [20] = "ENA_TX_CDESC", [21] = "ENA_RX_DESC", [22] = "ENA_RX_CDESC", [23] = "ENA_LLQ_ENTRY",
    [24] = "ENA_CONTROL", [25] = "ENA_HOST_INFO", [32] = "XEN_RING_INDEX", [33] = "XEN_TX_REQ",
    [34] = "XEN_TX_RSP", [35] = "XEN_RX_REQ", [36] = "XEN_RX_RSP", [37] = "XEN_CTRL_REQ",
    [38] = "XEN_CTRL_RSP", [39] = "XEN_RING_PAGE",
  }
  rw.SEVERITIES = { [0] = "note", [1] = "queue", [2] = "device" }
end
