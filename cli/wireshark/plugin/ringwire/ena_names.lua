-- Names of ENA's numbers: the words of shared/ena, whose source is amzn-drivers:
-- kernel/fbsd/ena/ena-com/ena_defs.
return function(rw)
  rw.ena = rw.ena or {}
  local ena = rw.ena

  ena.OPCODE = { [1] = "CREATE_SQ", [2] = "DESTROY_SQ", [3] = "CREATE_CQ", [4] = "DESTROY_CQ",
    [8] = "GET_FEATURE", [9] = "SET_FEATURE", [11] = "GET_STATS" }
  ena.STATUS = { [0] = "SUCCESS", [1] = "RESOURCE_ALLOCATION_FAILURE", [2] = "BAD_OPCODE",
    [3] = "UNSUPPORTED_OPCODE", [4] = "MALFORMED_REQUEST", [5] = "ILLEGAL_PARAMETER",
    [6] = "UNKNOWN_ERROR", [7] = "RESOURCE_BUSY" }
  ena.DIRECTION = { [1] = "TX", [2] = "RX" }
  ena.PLACEMENT = { [1] = "HOST", [3] = "DEV" }
  ena.COMPLETION_POLICY = { [0] = "DESC", [1] = "DESC_ON_DEMAND", [2] = "HEAD_ON_DEMAND", [3] = "HEAD" }
  ena.FEATURE = { [1] = "DEVICE_ATTRIBUTES", [2] = "MAX_QUEUES_NUM", [3] = "HW_HINTS", [4] = "LLQ",
    [5] = "EXTRA_PROPERTIES_STRINGS", [6] = "EXTRA_PROPERTIES_FLAGS", [7] = "MAX_QUEUES_EXT",
    [8] = "FRAG_BYPASS", [10] = "RSS_HASH_FUNCTION", [11] = "STATELESS_OFFLOAD_CONFIG",
    [12] = "RSS_INDIRECTION_TABLE_CONFIG", [14] = "MTU", [18] = "RSS_HASH_INPUT",
    [20] = "INTERRUPT_MODERATION", [26] = "AENQ_CONFIG", [27] = "LINK_CONFIG",
    [28] = "HOST_ATTR_CONFIG", [29] = "PHC_CONFIG", [30] = "FLOW_STEERING_CONFIG", [31] = "HW_TIMESTAMP" }
  ena.SELECT = { [0] = "CURRENT (0)", [1] = "CURRENT", [3] = "DEFAULT" }
  ena.STATS = { [0] = "BASIC", [1] = "EXTENDED", [2] = "ENI", [3] = "ENA_SRD", [4] = "CUSTOMER_METRICS" }
  ena.SCOPE = { [0] = "SPECIFIC_QUEUE", [1] = "ETH_TRAFFIC" }
  ena.GROUP = { [0] = "LINK_CHANGE", [1] = "FATAL_ERROR", [2] = "WARNING", [3] = "NOTIFICATION",
    [4] = "KEEP_ALIVE", [5] = "REFRESH_CAPABILITIES", [6] = "CONF_NOTIFICATIONS", [7] = "DEVICE_REQUEST_RESET" }
  ena.SYNDROME = { [2] = "UPDATE_HINTS" }
  ena.L3 = { [0] = "UNKNOWN", [8] = "IPV4", [11] = "IPV6", [21] = "FCOE", [22] = "ROCE" }
  ena.L4 = { [0] = "UNKNOWN", [12] = "TCP", [13] = "UDP", [23] = "ROUTEABLE_ROCE" }
  ena.OS = { [1] = "LINUX", [4] = "FREEBSD" }
  ena.RESET_REASON = { [0] = "NORMAL", "KEEP_ALIVE_TO", "ADMIN_TO", "MISS_TX_CMPL", "INV_RX_REQ_ID",
    "INV_TX_REQ_ID", "TOO_MANY_RX_DESCS", "INIT_ERR", "DRIVER_INVALID_STATE", "OS_TRIGGER",
    "OS_NETDEV_WD", "SHUTDOWN", "USER_TRIGGER", "GENERIC", "MISS_INTERRUPT",
    "SUSPECTED_POLL_STARVATION", "RX_DESCRIPTOR_MALFORMED", "TX_DESCRIPTOR_MALFORMED",
    "MISSING_ADMIN_INTERRUPT", "DEVICE_REQUEST", "MISS_FIRST_INTERRUPT" }
  ena.REGISTER = { [0x00] = "VERSION", [0x04] = "CONTROLLER_VERSION", [0x08] = "CAPS", [0x0c] = "CAPS_EXT",
    [0x10] = "AQ_BASE_LO", [0x14] = "AQ_BASE_HI", [0x18] = "AQ_CAPS", [0x20] = "ACQ_BASE_LO",
    [0x24] = "ACQ_BASE_HI", [0x28] = "ACQ_CAPS", [0x2c] = "AQ_DB", [0x30] = "ACQ_TAIL",
    [0x34] = "AENQ_CAPS", [0x38] = "AENQ_BASE_LO", [0x3c] = "AENQ_BASE_HI", [0x40] = "AENQ_HEAD_DB",
    [0x44] = "AENQ_TAIL", [0x4c] = "INTR_MASK", [0x54] = "DEV_CTL", [0x58] = "DEV_STS",
    [0x5c] = "MMIO_REG_READ", [0x60] = "MMIO_RESP_LO", [0x64] = "MMIO_RESP_HI",
    [0x68] = "RSS_IND_ENTRY_UPDATE", [0x100] = "PHC_DB" }
  ena.DEV_CTL = { { 0, "DEV_RESET" }, { 1, "AQ_RESTART" }, { 2, "QUIESCENT" }, { 3, "IO_RESUME" } }
  ena.DEV_STS = { { 0, "READY" }, { 1, "AQ_RESTART_IN_PROGRESS" }, { 2, "AQ_RESTART_FINISHED" },
    { 3, "RESET_IN_PROGRESS" }, { 4, "RESET_FINISHED" }, { 5, "FATAL_ERROR" },
    { 6, "QUIESCENT_STATE_IN_PROGRESS" }, { 7, "QUIESCENT_STATE_ACHIEVED" } }
  ena.HASH_PROTO = { [0] = "TCP4", "UDP4", "TCP6", "UDP6", "IP4", "IP6", "IP4_FRAG", "NOT_IP", "TCP6_EX", "IP6_EX" }
end
