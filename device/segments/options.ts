/**
 * Options of a segment and of its ports: one declaration for `openDevice`, for `--config` and for
 * the file of a lab. The keys are the same in all of them.
 *
 *   [[segment]]                     [[segment.port]]
 *   name = "red"                    name = "guest-*"
 *   uplinks = ["tap:lab0"]          access = 10
 */
import * as z from "zod";
import { parseUnicastMac } from "../../shared/net/ethernet.ts";
import { parseUplink } from "../ports/uplinks.ts";
import { serviceOptions } from "../services/options.ts";
import { MAX_STORM_LIMIT, STORM_KINDS } from "../switch/storm.ts";

/** Most segments of one device. */
export const MAX_SEGMENTS = 64;
/** Most rules for ports of one segment. */
const MAX_RULES = 256;
/** Most addresses in one rule. */
const MAX_ADDRESSES = 64;
const MIN_MTU = 68;
const MAX_MTU = 65_535;
/** Numbers of a VLAN: IEEE 802.1Q, 9.6. 0 and 4095 are reserved. */
const MAX_VLAN = 4094;

export const segmentName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "takes 1 to 63 letters, digits and . _ -");

const vlan = z.number().int().min(1).max(MAX_VLAN);

const stormLimit = z.union([z.number().min(1).max(MAX_STORM_LIMIT), z.literal("off")]);
const storm = z.strictObject(
  Object.fromEntries(STORM_KINDS.map((kind) => [kind, stormLimit.optional()])) as Record<
    (typeof STORM_KINDS)[number],
    z.ZodOptional<typeof stormLimit>
  >,
);

const mac = z.string().transform((text, context): string => {
  try {
    parseUnicastMac(text);
    return text;
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
    return z.NEVER;
  }
});

/** The policy of a port. An absent key leaves that part as it is without a rule. */
export const portOptions = z.strictObject({
  /** True: frames of this port reach only ports that are not isolated. */
  isolated: z.boolean().optional(),
  /** Strict mode: the only source addresses that the port may use. */
  addresses: z.array(mac).min(1).max(MAX_ADDRESSES).optional(),
  /** The port keeps the first addresses that it uses, as many as this, and may use no other. */
  sticky: z.number().int().min(1).max(1024).optional(),
  /** Frames a second that the port may flood, by kind. */
  storm: storm.optional(),
  /** Bits a second that the port may send. */
  rate: z.number().min(1000).optional(),
  /** Bytes that the port may send at once above its rate. Default: the bytes of 100 ms. */
  burst: z.number().int().min(1).optional(),
  /** True: ARP and neighbour discovery may name no other host, and no router. */
  guard: z.boolean().optional(),
  /** IP addresses that a guarded port may announce. Default: any. */
  ips: z
    .array(z.union([z.ipv4(), z.ipv6()]))
    .min(1)
    .max(MAX_ADDRESSES)
    .optional(),
  /** Largest packet of the port, in bytes without the Ethernet header. */
  mtu: z.number().int().min(MIN_MTU).max(MAX_MTU).optional(),
  /** VLAN of an access port: its frames carry no tag. */
  access: vlan.optional(),
  /** VLANs of a trunk port: its frames carry tags. "all" for every VLAN. */
  trunk: z.union([z.array(vlan).min(1), z.literal("all")]).optional(),
  /** VLAN of the frames without a tag on a trunk. Without it a trunk drops them. */
  native: vlan.optional(),
});
/** @interface */
export type PortOptions = z.infer<typeof portOptions>;

/** A rule: the policy of every port with a name that fits. */
export const portRule = z
  .strictObject({
    /** Name of NICs and uplinks, with * for any letters. */
    name: z
      .string()
      .regex(/^[A-Za-z0-9._*-]{1,63}$/, "takes a port's name, with * for any letters"),
    ...portOptions.shape,
  })
  .refine(({ access, trunk }) => access === undefined || trunk === undefined, {
    message: "has access and trunk: a port is one of them",
  })
  .refine(({ native, trunk }) => native === undefined || trunk !== undefined, {
    message: "has native without trunk",
  })
  .refine(({ burst, rate }) => burst === undefined || rate !== undefined, {
    message: "has burst without rate",
  })
  .refine(({ ips, guard }) => ips === undefined || guard === true, {
    message: "has ips without guard",
  });
/** @interface */
export type PortRule = z.infer<typeof portRule>;

const uplink = z.string().superRefine((text, context) => {
  const message = parseUplink(text);
  if (typeof message === "string") context.addIssue({ code: "custom", message });
});

export const segmentOptions = z.strictObject({
  name: segmentName.default("lan0"),
  /** Devices with the same id state that uplinks join them to one segment. Default: random. */
  id: segmentName.optional(),
  /** Policy for a frame whose receiver has no room. Default "drop". */
  whenFull: z.enum(["drop", "hold"]).default("drop"),
  /** Frames a second that a NIC may flood, by kind; an uplink may flood ten times as many. */
  storm: storm.default({}),
  /** Uplinks, each as SCHEME:NAME. */
  uplinks: z.array(uplink).max(64).default([]),
  /** Rules for ports. Of two rules with one key, the later one counts. */
  port: z.array(portRule).max(MAX_RULES).default([]),
  /** DHCP, DNS, router advertisements, pings and a gateway. */
  services: serviceOptions.optional(),
});
