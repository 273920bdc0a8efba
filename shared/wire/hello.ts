/**
 * The handshake before the first batch of work: hello from the frontend, welcome from the device.
 * Both are maps, so that a newer peer may add fields. Unknown fields are ignored.
 */
import * as z from "zod";
import { parseUnicastMac } from "../net/ethernet.ts";
import { MAX_DEAD_AFTER } from "./dead-after.ts";
import { Limits, PROTOCOL_VERSION, WireError } from "./protocol.ts";

/** Names: letters, digits and . _ - are allowed. They fit a log line, a metric and a file name. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/**
 * Words that are no valid name of a NIC or an uplink. In a capture they select the switch, all
 * interfaces, or every port.
 */
const RESERVED_NAMES: readonly string[] = ["any", "all", "switch"];

/** True for a word that captures use, so that no NIC or uplink may have it as its name. */
export const isReservedName = (text: string): boolean => RESERVED_NAMES.includes(text);

/** The reason for the refusal, as the end of a sentence about the name. */
export const RESERVED_REASON = `is a word that captures use; no NIC may be called ${RESERVED_NAMES.join(", ")}`;

const word = z.string().max(Limits.NAME_BYTES).regex(NAME);
const name = word.refine((text) => !isReservedName(text), {
  error: ({ input }) => `"${String(input)}" ${RESERVED_REASON}`,
});
const mac = z.string().max(17).refine(isMacText, "not a unicast MAC address");

/** Seconds of silence after which the other end counts as dead; 0 for never. */
const deadAfter = z.number().int().min(0).max(MAX_DEAD_AFTER);

const helloShape = z.object({
  version: z.number().int().min(0).max(0xffff),
  personality: word,
  name,
  /** Random text of a process. It tells a reconnect from another process with the same name. */
  instance: z.string().min(1).max(64),
  /** True: if the name is in use, the device may give the next free one, named in `welcome`. */
  numbered: z.boolean().optional(),
  /** True: the frontend takes the name from a live NIC, whose connection then ends. */
  takeOver: z.boolean().optional(),
  agent: z.string().max(64).optional(),
  mac: mac.optional(),
  queues: z.number().int().min(1).max(128).optional(),
  mtu: z.number().int().min(68).max(65535).optional(),
  /** Wanted for both ends. Missing: the device decides. */
  deadAfter: deadAfter.optional(),
});
/** The first message of a frontend: who it is, and the NIC that it wants. */
export type Hello = z.infer<typeof helloShape>;

const welcomeShape = z.object({
  version: z.number().int().min(0).max(0xffff),
  agent: z.string().max(64).optional(),
  name,
  mac,
  segment: word,
  /** Number of this connection; it rises with each. Nothing of an older connection is applied. */
  epoch: z.number().int().min(0),
  /** Queue pairs that the device offers. */
  queues: z.number().int().min(1).max(128),
  maxMtu: z.number().int().min(68).max(65535),
  /** Bytes of pushes that the device holds for this NIC. */
  pushBytes: z.number().int().min(Limits.PUSH_BYTES_MIN),
  /** PCI revision id; bit 0 set: no readless register reads. */
  revision: z.number().int().min(0).max(255),
  /** True when there is a BAR 2, the device's own memory. */
  deviceMemory: z.boolean(),
  /** The time that the device waits. Missing: 4 s. */
  deadAfter: deadAfter.optional(),
});
/** The answer of a device to a hello: the NIC that the frontend gets. */
export type Welcome = z.infer<typeof welcomeShape>;

/** Checks a decoded hello. Throws a WireError that names the field. */
export function parseHello(value: unknown): Hello {
  return check(helloShape, value, "hello");
}

/** Checks a decoded welcome. Throws a WireError that names the field. */
export function parseWelcome(value: unknown): Welcome {
  const welcome = check(welcomeShape, value, "welcome");
  if (welcome.version !== PROTOCOL_VERSION) {
    throw new WireError("WIRE_VERSION", `welcome: version ${welcome.version} was never offered`);
  }
  return welcome;
}

function check<T>(shape: z.ZodType<T>, value: unknown, what: string): T {
  const result = shape.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new WireError(
    "WIRE_HELLO",
    `${what}: ${issue.path.join(".") || "value"}: ${issue.message}`,
  );
}

function isMacText(text: string): boolean {
  try {
    parseUnicastMac(text);
    return true;
  } catch {
    return false;
  }
}
