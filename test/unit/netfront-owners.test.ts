/**
 * The rule that replaces the original's locks: a data path writes the fields of its own queue, and
 * no field of the interface or of another queue.
 */
import { expect, test } from "vitest";
import { suspend } from "../../frontend/xen/lifecycle.ts";
import type { Rxq, Txq } from "../../frontend/xen/rings.ts";
import { nextTurn } from "../support/grant-stage.ts";
import { frame, MAC } from "../support/nic-frames.ts";
import { buildPacket } from "../support/packets.ts";
import { XenPair } from "../support/pair.ts";

/** The values of an object's fields. An array is copied, because its elements may change. */
const fieldsOf = (object: object): Map<string, unknown> =>
  new Map(
    Object.entries(object).map(([name, value]) => [
      name,
      Array.isArray(value) || ArrayBuffer.isView(value)
        ? Array.from(value as ArrayLike<unknown>)
        : value,
    ]),
  );

const sameValue = (a: unknown, b: unknown): boolean =>
  Array.isArray(a) && Array.isArray(b)
    ? a.length === b.length && a.every((each, i) => each === b[i])
    : a === b;

/** Records the fields of `objects`. Returns a function that names the fields written since. */
function watch(objects: Readonly<Record<string, object>>): () => string[] {
  const before = Object.entries(objects).map(([name, o]) => [name, o, fieldsOf(o)] as const);
  return () =>
    before.flatMap(([name, object, fields]) =>
      [...fieldsOf(object)]
        .filter(([field, value]) => !sameValue(fields.get(field), value))
        .map(([field]) => `${name}.${field}`),
    );
}

const watchQueue = (queue: Rxq | Txq): (() => string[]) =>
  watch({ queue, pool: queue.pool, ring: queue.ring!, stats: queue.stats });

test.each(["sent", "received"])(
  "a frame that is %s writes the fields of one queue, and none of the interface",
  async (direction) => {
    const pair = await XenPair.started({ queues: 2 });
    const { info } = pair;
    const used = new Set<number>();
    for (let sourcePort = 2000; sourcePort < 2032; sourcePort++) {
      const ofInfo = watch({ info });
      const queues = direction === "sent" ? info.txqs : info.rxqs;
      const others = (direction === "sent" ? info.rxqs : info.txqs).map(watchQueue);
      const before = queues.map(watchQueue);
      const { bytes } = buildPacket({ destination: MAC, sourcePort });
      if (direction === "sent") expect(pair.send(bytes)).toBe(0);
      else expect(pair.inject(bytes)).toBeUndefined();
      pair.flushPort();
      await pair.settle();

      const written = before.map((since) => since());
      const [queue, ...more] = written.flatMap((fields, i) => (fields.length > 0 ? [i] : []));
      expect(more).toEqual([]);
      expect(written[queue!]).toContain("stats.count");
      expect(ofInfo()).toEqual([]);
      expect(others.flatMap((since) => since())).toEqual([]);
      used.add(queue!);
    }
    expect([...used].sort()).toEqual([0, 1]);
  },
);

test("a step that waits for responses writes no field of a queue", async () => {
  const pair = await XenPair.started({ queues: 2 });
  const { info } = pair;
  pair.send(frame(100));
  const since = [...info.rxqs, ...info.txqs].map(watchQueue);
  const suspending = suspend(info);
  pair.clock.advance(50);
  await nextTurn();
  expect([info.suspended, info.carrier]).toEqual([true, true]);
  expect(since.flatMap((each) => each())).toEqual([]);
  await pair.run(suspending);
  expect(info.carrier).toBe(false);
});
