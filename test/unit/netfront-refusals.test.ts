/**
 * Every answer that netfront waits for while it connects is refused once, one failure point at a
 * time. Nothing is left behind, and failures that may pass are tried again.
 */
import { expect, test } from "vitest";
import { XsType, xsMessage, xsStrings } from "../../shared/xen/xenstore.ts";
import { XenPair } from "../support/pair.ts";
import type { Act } from "../support/wire-acts.ts";
import { backendViolations, referencesInUse, violations } from "../support/xen-invariants.ts";

const EACCES = 13;
const QUEUES = 2;
const CLOSED = 6;
/** How long the driver waits for a state that could not be read. */
const CONNECT_MS = 10;

const typeOf = (bytes: Uint8Array): number => bytes[0]!;
const isAnswer = (act: Act): boolean =>
  act.kind === "hypercall_reply" ||
  (act.kind === "xenstore" && typeOf(act.bytes) !== XsType.WATCH_EVENT);

function refusal(act: Act): Act {
  if (act.kind === "hypercall_reply") return { ...act, errno: EACCES };
  if (act.kind !== "xenstore") throw new Error("no answer");
  const view = new DataView(act.bytes.buffer, act.bytes.byteOffset);
  const error = xsMessage(
    XsType.ERROR,
    view.getUint32(4, true),
    view.getUint32(8, true),
    xsStrings("EACCES"),
  );
  return { kind: "xenstore", bytes: error };
}

/** Refuses the n-th answer. `reached` is true when there were so many. */
function refuse(pair: XenPair, n: number): { reached: boolean } {
  const seen = { reached: false };
  let count = 0;
  pair.tamper = (act) => {
    if (!isAnswer(act) || count++ !== n) return [act];
    seen.reached = true;
    return [refusal(act)];
  };
  return seen;
}

/** The backend closes, and offers itself again. */
async function offer(pair: XenPair): Promise<void> {
  for (const state of ["5", "1"]) await pair.backendSays("state", state);
}

async function works(pair: XenPair): Promise<void> {
  const sent = pair.segment.length;
  const received = pair.inputs.length;
  expect(pair.send(new Uint8Array(60).fill(0x88))).toBe(0);
  pair.inject(Uint8Array.from({ length: 60 }, (_, i) => [2, 0, 0, 0, 0, 1][i] ?? 0x88));
  pair.flushPort();
  await pair.settle();
  expect([pair.segment.length, pair.inputs.length]).toEqual([sent + 1, received + 1]);
  expect(violations(pair)).toEqual([]);
  expect(backendViolations(pair)).toEqual([]);
}

test("each answer while it attaches is a refusal: attach fails with nothing left, or does without", async () => {
  let n = 0;
  for (let last = false; !last; n++) {
    const pair = new XenPair({ queues: QUEUES, driver: { connectMs: CONNECT_MS } });
    const seen = refuse(pair, n);
    const end = await pair.attach().then(
      () => "attached",
      (error: Error & { code: string }) => error.code,
    );
    pair.tamper = undefined;
    await pair.settle();
    last = !seen.reached;
    expect([n, end]).toEqual([n, expect.stringMatching(/^(attached|XENSTORE|HYPERCALL|BACKEND)$/)]);
    if (end === "attached") {
      expect(violations(pair)).toEqual([]);
      continue;
    }
    // The backend saw Connected although the frontend got a refusal: it uses the rings until it is
    // gone.
    if (pair.info.grants.quarantined > 0) pair.cut();
    expect([n, referencesInUse(pair)]).toEqual([n, 0]);
    if (pair.plugged) expect([n, pair.grants.snapshot()["granted"]]).toEqual([n, 0]);
    expect([n, pair.counter("rx_mbufs_in_use")]).toEqual([n, 0]);
  }
  // The answers are for keys, watches, ports and the transaction.
  expect(n).toBeGreaterThan(30);
});

test("each answer while it connects anew is a refusal: it comes back by itself", async () => {
  let n = 0;
  for (let last = false; !last; n++) {
    const pair = new XenPair({ queues: QUEUES, driver: { connectMs: CONNECT_MS } });
    await pair.start();
    const seen = refuse(pair, n);
    await offer(pair);
    pair.tamper = undefined;
    await pair.settle();
    last = !seen.reached;
    expect([n, violations(pair)]).toEqual([n, []]);
    // A state that could not be read is read again only when it changes, unless the driver waits
    // for it.
    if (pair.info.xenbus.state === CLOSED && !pair.info.carrier) await offer(pair);
    while (!pair.info.carrier) {
      await pair.second();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await works(pair);
  }
  expect(n).toBeGreaterThan(30);
});
