import { expect, it } from "vitest";
import { Turn, type TurnQueue } from "../../device/turn.ts";
import { FakeSwitchPort } from "../support/fake-host.ts";

/** A NIC whose transmit queues have packets of a given work. */
class Sender {
  /** Packets sent. */
  sent = 0;
  /** Packets that wait, in all queues together. */
  waiting: number;
  readonly turn: Turn;

  constructor(waiting: number, queues = 1, work = 1) {
    this.waiting = waiting;
    const queue: TurnQueue = {
      run: (budget) => {
        let done = 0;
        for (; done < budget && this.waiting > 0; done += work) {
          this.waiting--;
          this.sent++;
        }
        return done;
      },
      resume() {},
    };
    const owner = { tx: new Array<TurnQueue>(queues).fill(queue), endTurn() {} };
    this.turn = new Turn(owner, new FakeSwitchPort(), { askToWork: () => true });
  }
}

const PORTS = 512;
const ROUNDS = 10;
/** The other end of the event loop's turn. */
const round = () => new Promise((resolve) => setImmediate(resolve));

it("fault-G6 512 ports at full rate share the thread within 20 %, whatever they have to send", async () => {
  const kinds = [
    [1, 1],
    [8, 1],
    [1, 4],
    [32, 16],
  ] as const;
  const senders = Array.from({ length: PORTS }, (_, i) => {
    const [queues, work] = kinds[i % kinds.length]!;
    return { work, sender: new Sender(Number.POSITIVE_INFINITY, queues, work) };
  });
  for (const { sender } of senders) sender.turn.schedule();
  for (let i = 0; i < ROUNDS; i++) await round();
  for (const { sender } of senders) sender.turn.close();
  const shares = senders.map(({ sender, work }) => sender.sent * work);
  const fair = shares.reduce((sum, share) => sum + share, 0) / PORTS;
  expect(fair).toBeGreaterThan(ROUNDS);
  expect(Math.min(...shares)).toBeGreaterThan(fair * 0.8);
  expect(Math.max(...shares)).toBeLessThan(fair * 1.2);
});

it("fault-G6 beside one port at full rate, 511 others send all that they have, every time", async () => {
  const hog = new Sender(Number.POSITIVE_INFINITY, 8);
  hog.turn.schedule();
  const others = Array.from({ length: PORTS - 1 }, () => new Sender(0));
  let behind = 0;
  for (let i = 0; i < ROUNDS; i++) {
    const before = hog.sent;
    for (const other of others) {
      other.waiting += 16;
      other.turn.schedule();
    }
    await round();
    behind += others.filter((other) => other.waiting > 0).length;
    // Its share of the same time is one turn's work, or two at the edge.
    expect(hog.sent - before).toBeLessThanOrEqual(512);
  }
  hog.turn.close();
  expect(behind).toBe(0);
  expect(hog.sent).toBeGreaterThanOrEqual(ROUNDS * 256);
});
