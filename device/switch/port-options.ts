/**
 * The options of a port, and the rules that give them to ports by name. This is their only
 * declaration: for `openDevice`, for a file of options and for the file of a lab.
 */
import * as z from "zod";
import { parseUnicastMac } from "../../shared/net/ethernet.ts";
import { namePattern } from "../name-pattern.ts";
import { MAX_STORM_LIMIT, STORM_KINDS } from "./storm.ts";

/** Most addresses of each kind in one rule. */
const MAX_ADDRESSES = 64;
const MIN_MTU = 68;
const MAX_MTU = 65_535;
/** Largest number of a VLAN (IEEE 802.1Q, 9.6). The numbers 0 and 4095 are reserved. */
export const MAX_VLAN = 4094;
/** Largest rate in bits a second. */
const MAX_RATE = 1e12;

const vlan = z.number().int().min(1).max(MAX_VLAN);
const stormLimit = z.union([z.number().min(1).max(MAX_STORM_LIMIT), z.literal("off")]);

/** Frames a second that a port may flood, by kind; "off" for no limit. */
export const stormOptions = z.strictObject(
  Object.fromEntries(STORM_KINDS.map((kind) => [kind, stormLimit.optional()])) as Record<
    (typeof STORM_KINDS)[number],
    z.ZodOptional<typeof stormLimit>
  >,
);

const mac = z.string().superRefine((text, context) => {
  try {
    parseUnicastMac(text);
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
  }
});

export const portOptions = z.strictObject({
  isolated: z
    .boolean()
    .optional()
    .meta({ description: "true: frames of this port reach only ports that are not isolated" }),
  addresses: z
    .array(mac)
    .min(1)
    .max(MAX_ADDRESSES)
    .optional()
    .meta({ description: "the only MAC addresses that the port may use" }),
  sticky: z
    .number()
    .int()
    .min(1)
    .max(1024)
    .optional()
    .meta({ description: "the port keeps the first MAC addresses that it uses, as many as this" }),
  storm: stormOptions
    .optional()
    .meta({ description: "frames a second that the port may flood, by kind" }),
  rate: z
    .number()
    .min(1000)
    .max(MAX_RATE)
    .optional()
    .meta({ description: "bits a second that the port may send" }),
  burst: z
    .number()
    .int()
    .min(1)
    .max(MAX_RATE)
    .optional()
    .meta({ description: "bytes that the port may send at once above its rate (those of 100 ms)" }),
  guard: z.boolean().optional().meta({
    description: "true: ARP and neighbour discovery may name no other host, and no router",
  }),
  ips: z
    .array(z.union([z.ipv4(), z.ipv6()]))
    .min(1)
    .max(MAX_ADDRESSES)
    .optional()
    .meta({ description: "IP addresses that a guarded port may announce (any)" }),
  mtu: z
    .number()
    .int()
    .min(MIN_MTU)
    .max(MAX_MTU)
    .optional()
    .meta({ description: "largest packet of the port, in bytes without the Ethernet header" }),
  access: vlan.optional().meta({ description: "VLAN of an access port: its frames carry no tag" }),
  trunk: z
    .union([z.array(vlan).min(1).max(MAX_VLAN), z.literal("all")])
    .optional()
    .meta({ description: 'VLANs of a trunk port: its frames carry tags; "all" for every VLAN' }),
  native: vlan.optional().meta({ description: "VLAN of the frames without a tag on a trunk" }),
});
/** The policy of a port. An absent option leaves that part as it is without a rule. @interface */
export type PortOptions = Readonly<z.infer<typeof portOptions>>;

/** A rule: the options of all ports with names that fit. */
export const portRule = z
  .strictObject({
    name: namePattern.meta({ description: "name of NICs and uplinks, with * for any letters" }),
    ...portOptions.shape,
  })
  .refine(({ access, trunk }) => access === undefined || trunk === undefined, {
    message: "has access and trunk, and a port is one of them",
  })
  .refine(({ native, trunk }) => native === undefined || trunk !== undefined, {
    message: "has native without trunk",
  })
  .refine(({ burst, rate }) => burst === undefined || rate !== undefined, {
    message: "has burst without rate",
  })
  .refine(({ ips, guard }) => ips === undefined || guard === true, {
    message: "has ips without guard = true",
  });
/** Options of all ports with names that fit. @interface */
export type PortRule = Readonly<z.infer<typeof portRule>>;
