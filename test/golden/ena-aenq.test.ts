/**
 * ENA events, byte for byte
 *
 * How the hex was made: a C program included, unchanged, the headers of amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_defs/{ena_common_defs,ena_regs_defs,ena_admin_defs,ena_eth_io_defs}.h
 * with BIT and GENMASK defined, on x86-64. It zeroed each
 * structure, set the values listed through the structure's own members and the headers' own
 * _SHIFT and _MASK macros, and printed sizeof and the bytes. None of our code took part.
 */
import { describe } from "vitest";
import {
  aenqCommon,
  aenqConfNotifications,
  aenqKeepAlive,
  aenqLinkChange,
} from "../../shared/ena/aenq.ts";
import { golden } from "./ena-golden.ts";

describe("ENA events, byte for byte", () => {
  golden("ena_admin_aenq_common_desc", aenqCommon, 16, "07000302010000007766554433221100", {
    group: 0x7,
    syndrome: 0x203,
    phase: 0x1,
    timestamp: 0x11223344556677,
  });
  golden(
    "ena_admin_aenq_link_change_desc",
    aenqLinkChange,
    20,
    "0000030201000000776655443322110001000000",
    { group: 0x0, syndrome: 0x203, phase: 0x1, timestamp: 0x11223344556677, linkUp: true },
  );
  golden(
    "ena_admin_aenq_keep_alive_desc",
    aenqKeepAlive,
    40,
    "0400030201000000776655443322110060504030201000006151413121110100" + "4151617181910100",
    {
      group: 0x4,
      syndrome: 0x203,
      phase: 0x1,
      timestamp: 0x11223344556677,
      rxDrops: 0x102030405060,
      txDrops: 0x1112131415161,
      rxOverruns: 0x1918171615141,
    },
  );
  golden(
    "ena_admin_aenq_conf_notifications_desc",
    aenqConfNotifications,
    32,
    "0600030201000000776655443322110005000000000010000000000000000000",
    {
      group: 0x6,
      syndrome: 0x203,
      phase: 0x1,
      timestamp: 0x11223344556677,
      notificationsBitmap: 0x10000000000005,
    },
  );
});
