/**
 * The host information page: a driver's identity and its supported features.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h,
 * struct ena_admin_host_info; operating systems: kernel/fbsd/ena/ena-com/ena_plat.h
 * and kernel/linux/common/ena_com/ena_com.h.
 */
import { bits, cString, list, type Parsed, struct, u16, u32 } from "../bytes/struct.ts";

/** ENA_ADMIN_OS_* */
export const OsType = { LINUX: 1, FREEBSD: 4 } as const;
export type OsType = (typeof OsType)[keyof typeof OsType];

/** driver_supported_features. Debug area: kernel/linux/common/ena_com/ena_admin_defs.h. */
export const DriverFeature = {
  RX_OFFSET: 1 << 1,
  INTERRUPT_MODERATION: 1 << 2,
  RX_BUF_MIRRORING: 1 << 3,
  RSS_CONFIGURABLE_FUNCTION_KEY: 1 << 4,
  RX_PAGE_REUSE: 1 << 6,
  TX_IPV6_CSUM_OFFLOAD: 1 << 7,
  PHC: 1 << 8,
  DEBUG_AREA_EXT: 1 << 9,
} as const;
export type DriverFeature = (typeof DriverFeature)[keyof typeof DriverFeature];

/** ENA_COMMON_SPEC_VERSION: major in the high byte. */
export const ENA_SPEC_VERSION = 0x0200;
// ena_admin_host_info: 196 bytes
//   0         4                  132       136             168          172              176
//   | os type | os dist str[128] | os dist | kernel v.[32] | kernel ver | driver version |
//   176                   184            186   188        190 192               196
//   | network features[2] | spec version | bdf | num cpus | - | driver features |
//     driver version: 7:0 major, 15:8 minor, 23:16 sub minor, 31:24 module type
//     bdf: 2:0 function, 7:3 device, 15:8 bus
const DRIVER_VERSION = u32(172);
const BDF = u16(186);
export const hostInfo = struct(196, {
  osType: u32(0),
  osDistStr: cString(4, 128),
  osDist: u32(132),
  kernelVerStr: cString(136, 32),
  kernelVer: u32(168),
  driverMajor: bits(DRIVER_VERSION, 0, 8),
  driverMinor: bits(DRIVER_VERSION, 8, 8),
  driverSubMinor: bits(DRIVER_VERSION, 16, 8),
  moduleType: bits(DRIVER_VERSION, 24, 8),
  supportedNetworkFeatures: list(u32(176), 2, 4),
  enaSpecVersion: u16(184),
  pciFunction: bits(BDF, 0, 3),
  pciDevice: bits(BDF, 3, 5),
  pciBus: bits(BDF, 8, 8),
  numCpus: u16(188),
  driverSupportedFeatures: u32(192),
});
export type HostInfo = Parsed<typeof hostInfo>;
