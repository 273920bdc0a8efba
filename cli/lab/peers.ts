/**
 * Which NICs of a lab see each other. A NIC sees a peer when the kernel of its namespace gets an
 * answer to ARP or neighbour discovery at the NIC's TAP. That needs the whole way, there and back:
 * both drivers, the device, its rules. It needs no program in the namespaces, no right at the device,
 * and no rule of a firewall.
 */
import { mayHave } from "../../device/access/token.ts";
import { isNeighbour, plainIp } from "./address.ts";
import type { Lab, LabNic } from "./model.ts";
import { answeredAt, askNeighbours, forgetNeighbours } from "./network.ts";
import { inTurns } from "./turns.ts";

/**
 * Most pairs that are asked. The kernel keeps 1024 neighbours for all namespaces together
 * (net.ipv4.neigh.default.gc_thresh3), so in a large lab each NIC asks only those behind it.
 */
const MAX_PAIRS = 400;
/** Time (ms) between two looks at the answers, and after which the kernel is asked again. */
const LOOK_MS = 30;
const ASK_MS = 1000;

interface Peer {
  readonly name: string;
  readonly ip: string;
}

export interface Sight {
  readonly nic: LabNic;
  /** The peers that the NIC should see. */
  readonly peers: readonly Peer[];
  /** Those that have not answered yet. */
  missing: readonly Peer[];
}

/** Returns what the NICs `own` should see of the NICs `others`. */
export function sightsOf(lab: Lab, own: readonly LabNic[], others: readonly LabNic[]): Sight[] {
  const each = Math.max(1, Math.floor(MAX_PAIRS / Math.max(1, own.length)));
  return own.map((nic) => {
    const at = others.indexOf(nic);
    const inOrder = [...others.slice(at + 1), ...others.slice(0, Math.max(at, 0))];
    const peers = inOrder
      .flatMap((other): Peer[] => {
        const ip = isApart(lab, nic, other) ? undefined : addressTo(nic, other);
        return ip === undefined ? [] : [{ name: other.name, ip }];
      })
      .slice(0, each);
    return { nic, peers, missing: peers };
  });
}

/** Returns the first address of `other` in a network of `nic`. */
function addressTo({ tap, addresses }: LabNic, other: LabNic): string | undefined {
  if (tap === undefined || other.tap === undefined) return undefined;
  const found = other.addresses.find((address) =>
    addresses.some((own) => isNeighbour(own, address)),
  );
  return found && plainIp(found);
}

/** True for NICs that can't see each other: other segments, one kernel, or the rules of their ports. */
function isApart(lab: Lab, a: LabNic, b: LabNic): boolean {
  // A kernel does not ask at an interface for an address of its own.
  const isOneKernel = a.host === b.host && a.netns === b.netns;
  if (a === b || a.segment !== b.segment || isOneKernel) return true;
  const [one, other] = [policyOf(lab, a), policyOf(lab, b)];
  if (one.isolated === true && other.isolated === true) return true;
  return vlanOf(one) !== vlanOf(other);
}

/** The keys of the rules that fit the NIC's name; of two rules with one key, the later one counts. */
function policyOf({ segments }: Lab, { name, segment }: LabNic) {
  const rules = segments.find((one) => one.name === segment)?.port ?? [];
  const [first, ...rest] = rules.filter((rule) => mayHave({ names: [rule.name] }, name));
  return Object.assign({}, first, ...rest) as Partial<(typeof rules)[number]>;
}

/** The VLAN of a port's frames without a tag. A trunk without one sees nobody without tags. */
function vlanOf({ access, trunk, native }: ReturnType<typeof policyOf>): number | string {
  return (trunk === undefined ? access : (native ?? "tags only")) ?? 1;
}

/**
 * Asks until all have answered, `isOver` is true or `stopped`. With `afresh`, what the kernel knew
 * before does not count.
 */
export async function lookAround(
  sights: readonly Sight[],
  isOver: () => boolean,
  afresh: boolean,
): Promise<void> {
  const waiting = () => sights.filter(({ missing }) => missing.length > 0);
  if (afresh) await inTurns(waiting(), ({ nic }) => forgetNeighbours(nic));
  let asked = Number.NEGATIVE_INFINITY;
  while (waiting().length > 0) {
    if (performance.now() - asked >= ASK_MS) {
      asked = performance.now();
      await inTurns(waiting(), async ({ nic, missing }) => {
        await askNeighbours(
          nic,
          missing.map(({ ip }) => ip),
        );
      });
    }
    await inTurns(waiting(), async (sight) => {
      const answered = await answeredAt(sight.nic);
      sight.missing = sight.missing.filter(({ ip }) => !answered.has(ip));
    });
    if (isOver()) return;
    if (waiting().length > 0) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
