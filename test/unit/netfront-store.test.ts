/**
 * The guest's end of xenstore: requests by number, transactions, watches, and a store that
 * disappears.
 */

import { describe, expect, test } from "vitest";
import { Abandoned } from "../../frontend/driver-error.ts";
import { XenstoreClient } from "../../frontend/xen/xenstore-client.ts";
import { WireError } from "../../shared/wire/protocol.ts";

const START = 6;
const END = 7;
const WRITE = 11;
const READ = 2;
const WATCH = 4;
const EVENT = 15;
const ERROR = 16;

interface Asked {
  readonly type: number;
  readonly id: number;
  readonly tx: number;
  readonly payload: string;
}

/** A store driven by hand: records requests and gives the test's answers. */
class HandStore {
  attached = true;
  readonly asked: Asked[] = [];
  readonly client = new XenstoreClient(this);

  xenstore(message: Uint8Array): void {
    const v = new DataView(message.buffer, message.byteOffset);
    const payload = Buffer.from(message.subarray(16)).toString("latin1");
    this.asked.push({
      type: v.getUint32(0, true),
      id: v.getUint32(4, true),
      tx: v.getUint32(8, true),
      payload,
    });
  }

  say(type: number, id: number, text: string): void {
    const bytes = new Uint8Array(16 + text.length + 3);
    const v = new DataView(bytes.buffer);
    // In a real batch, a message never begins at offset 0.
    v.setUint32(3, type, true);
    v.setUint32(7, id, true);
    v.setUint32(15, text.length, true);
    bytes.set(Buffer.from(text, "latin1"), 19);
    this.client.receive(bytes, 3, 16 + text.length);
  }

  /** Answers the oldest open request. */
  answer(text: string, type?: number): Asked {
    const asked = this.asked.shift();
    if (asked === undefined) throw new Error("nothing was asked");
    this.say(type ?? asked.type, asked.id, text);
    return asked;
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("requests", () => {
  test("answers find their request, in any order", async () => {
    const store = new HandStore();
    const a = store.client.read("a");
    const b = store.client.read("b");
    const [first, second] = store.asked;
    store.say(READ, second!.id, "two");
    store.say(READ, first!.id, "one");
    expect(await Promise.all([a, b])).toEqual(["one", "two"]);
  });

  test("an error is rejected by its name; a node that is not there can be asked for", async () => {
    const store = new HandStore();
    const read = store.client.read("x");
    store.answer("EACCES\0", ERROR);
    await expect(read).rejects.toMatchObject({ code: "EACCES" });
    const optional = store.client.readOptional("x");
    store.answer("ENOENT\0", ERROR);
    expect(await optional).toBeUndefined();
    const refused = store.client.readOptional("x");
    store.answer("EACCES\0", ERROR);
    await expect(refused).rejects.toMatchObject({ code: "EACCES" });
  });

  test("no more than 16 are under way; the others follow in order", async () => {
    const store = new HandStore();
    const reads = Array.from({ length: 40 }, (_, i) => store.client.read(`k${i}`));
    expect(store.asked).toHaveLength(16);
    const order: string[] = [];
    for (let i = 0; i < 40; i++) order.push(store.answer(String(i)).payload);
    expect(order).toEqual(Array.from({ length: 40 }, (_, i) => `k${i}\0`));
    expect(await Promise.all(reads)).toEqual(Array.from({ length: 40 }, (_, i) => String(i)));
  });

  const wrong: readonly [string, (store: HandStore) => void][] = [
    ["an answer to nothing", (s) => s.say(READ, 99, "x")],
    ["an answer of another type", (s) => s.say(WRITE, s.asked[0]!.id, "OK\0")],
    [
      "an answer twice",
      (s) => {
        s.say(READ, s.asked[0]!.id, "x");
        s.say(READ, s.asked[0]!.id, "x");
      },
    ],
    ["an event without a token", (s) => s.say(EVENT, 0, "path\0")],
    ["half a header", (s) => s.client.receive(new Uint8Array(9), 0, 9)],
    [
      "a payload shorter than it says",
      (s) =>
        s.client.receive(
          Uint8Array.from({ length: 20 }, (_, i) => (i === 12 ? 9 : 0)),
          0,
          20,
        ),
    ],
  ];
  test.each(wrong)("%s ends the connection", async (_, lie) => {
    const store = new HandStore();
    store.client.read("a").catch(() => undefined);
    expect(() => lie(store)).toThrow(WireError);
  });
});

describe("transactions", () => {
  test("EAGAIN starts the whole transaction anew", async () => {
    const store = new HandStore();
    let bodies = 0;
    const done = store.client.transaction(async (tx) => {
      bodies++;
      await Promise.all([tx.write("a", "1"), tx.write("b", "2")]);
    });
    const trace: string[] = [];
    for (let round = 1; round <= 3; round++) {
      await turn();
      expect(store.answer(`${round}\0`).type).toBe(START);
      await turn();
      for (let i = 0; i < 2; i++) {
        const { type, tx, payload } = store.answer("OK\0");
        expect([type, tx]).toEqual([WRITE, round]);
        trace.push(payload);
      }
      await turn();
      const end = store.asked[0]!;
      expect([end.type, end.tx, end.payload]).toEqual([END, round, "T\0"]);
      if (round < 3) store.answer("EAGAIN\0", ERROR);
      else store.answer("OK\0");
    }
    await done;
    expect(bodies).toBe(3);
    expect(trace).toHaveLength(6);
  });

  test("what goes wrong inside ends it without effect", async () => {
    const store = new HandStore();
    const done = store.client.transaction((tx) => tx.write("a", "1"));
    store.answer("7\0");
    await turn();
    store.answer("EQUOTA\0".replace("EQUOTA", "ENOSPC"), ERROR);
    await turn();
    const end = store.answer("OK\0");
    expect([end.type, end.tx, end.payload]).toEqual([END, 7, "F\0"]);
    await expect(done).rejects.toMatchObject({ code: "ENOSPC" });
  });

  test("a store that always says EAGAIN is given up", async () => {
    const store = new HandStore();
    let over = false;
    const done = store.client
      .transaction(async () => {})
      .finally(() => {
        over = true;
      });
    done.catch(() => undefined);
    let rounds = 0;
    while (!over && rounds < 1000) {
      rounds++;
      store.answer("3\0");
      await turn();
      store.answer("EAGAIN\0", ERROR);
      await turn();
    }
    await expect(done).rejects.toMatchObject({ code: "EAGAIN" });
    expect(rounds).toBe(64);
  });
});

describe("watches, and the end", () => {
  test("an event reaches its watch, by token; one of an ended watch nobody", async () => {
    const store = new HandStore();
    const seen: string[] = [];
    const watching = store.client.watch("control/shutdown", (path) => seen.push(path));
    const { payload } = store.asked[0]!;
    expect(payload.split("\0")[0]).toBe("control/shutdown");
    const token = payload.split("\0")[1]!;
    // The first event may arrive before the answer.
    store.say(EVENT, 0, `control/shutdown\0${token}\0`);
    expect(store.answer("OK\0").type).toBe(WATCH);
    await watching;
    store.say(EVENT, 0, `control/shutdown/below\0${token}\0`);
    expect(seen).toEqual(["control/shutdown", "control/shutdown/below"]);
    const ending = store.client.resetWatches();
    store.say(EVENT, 0, `control/shutdown\0${token}\0`);
    store.answer("OK\0");
    await ending;
    expect(seen).toHaveLength(2);
  });

  test("a store that is gone rejects what waits, sent or not, and what is asked later", async () => {
    const store = new HandStore();
    const reads = Array.from({ length: 20 }, (_, i) => store.client.read(`k${i}`));
    store.attached = false;
    store.client.linkGone("the link is gone");
    for (const read of reads) await expect(read).rejects.toBeInstanceOf(Abandoned);
    await expect(store.client.read("k")).rejects.toBeInstanceOf(Abandoned);
    expect(store.client.outstanding).toBe(0);
  });

  test("a life that starts over on the same store drops the answers of the one before", async () => {
    const store = new HandStore();
    const old = store.client.read("a");
    store.client.abandon("starting over");
    await expect(old).rejects.toBeInstanceOf(Abandoned);
    const late = store.asked.shift()!;
    const next = store.client.read("b");
    store.say(READ, late.id, "old");
    store.answer("new");
    expect(await next).toBe("new");
    // One late answer is allowed; a second one breaks the protocol.
    expect(() => store.say(READ, late.id, "old")).toThrow(WireError);
  });
});
