/**
 * The hypervisor beside the PCI function: its transactions, their order, and the device's answers.
 */
import { pack, unpack } from "msgpackr";
import { describe, expect, it } from "vitest";
import { HypercallError, Hypervisor } from "../../frontend/bus/hypervisor.ts";
import { SessionLink } from "../../frontend/session-link.ts";
import { silentLogger } from "../../shared/log.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { Link } from "../../shared/wire/link.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { loopbackPair } from "../support/loopback.ts";

/** A session's end of a link; `sent` holds its transactions. */
function stage() {
  const [near, far] = loopbackPair();
  const sent: unknown[][] = [];
  far.onMessage = (bytes, at, length) =>
    sent.push(...(unpack(Buffer.from(bytes.subarray(at, at + length))) as unknown[][]));
  const link = new Link(
    near,
    {
      sink: { fault() {}, write() {} },
      batchApplied() {},
      writableAgain() {},
      closed() {},
      broken() {},
    },
    silentLogger,
  );
  const session = new SessionLink(link);
  const hypervisor = new Hypervisor();
  hypervisor.attachLink(session);
  const settle = async (): Promise<unknown[][]> => {
    link.flush();
    // The turns: held transactions are posted, are sent, arrive.
    for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
    return sent.filter(([op]) => op !== Op.HEARTBEAT && op !== Op.PROGRESS);
  };
  const close = (): void => {
    link.close(1000, "over");
    session.abandon();
  };
  return { hypervisor, session, settle, close };
}

describe("the hypervisor of a guest", () => {
  it("sends gathered grants before an event, a call and a message", async () => {
    const { hypervisor, settle, close } = stage();
    let gathered = 0;
    hypervisor.beforeNotice(() => {
      if (gathered-- > 0)
        hypervisor.grants(
          1,
          Uint8Array.from({ length: 24 }, (_, i) => i),
          1,
        );
    });
    gathered = 1;
    hypervisor.event(7);
    gathered = 1;
    const call = hypervisor.hypercall(32, 4, Uint8Array.of(7, 0, 0, 0));
    call.catch(() => {});
    gathered = 1;
    hypervisor.xenstore(Uint8Array.of(1, 2, 3));
    const grant = [Op.GRANT, 1, Buffer.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])];
    expect(await settle()).toEqual([
      grant,
      [Op.EVENT, 7],
      grant,
      [Op.HYPERCALL, 1, 32, 4, Buffer.from([7, 0, 0, 0])],
      grant,
      [Op.XENSTORE, Buffer.from([1, 2, 3])],
    ]);
    close();
    await expect(call).rejects.toThrow(HypercallError);
  });

  it("gives answers to those who asked, refusals with their errno", async () => {
    const { hypervisor, session, close } = stage();
    const good = hypervisor.hypercall(20, 6, new Uint8Array(16));
    const bad = hypervisor.hypercall(20, 2, new Uint8Array(24));
    session.hypercallReply({ tag: 2, errno: 38, bytes: new Uint8Array(0) });
    session.hypercallReply({ tag: 1, errno: 0, bytes: Uint8Array.of(9, 8, 7, 6).subarray(1, 3) });
    expect(await good).toEqual(Uint8Array.of(8, 7));
    await expect(bad).rejects.toMatchObject({ errno: 38 });
    expect(() => session.hypercallReply({ tag: 1, errno: 0, bytes: new Uint8Array(0) })).toThrow(
      /tag 1/,
    );
    close();
  });

  it("has no more calls outstanding than the wire allows", async () => {
    const { hypervisor, session, settle, close } = stage();
    const calls = Array.from({ length: Limits.HYPERCALLS + 3 }, () =>
      hypervisor.hypercall(32, 5, new Uint8Array(4)).catch(() => undefined),
    );
    expect(await settle()).toHaveLength(Limits.HYPERCALLS);
    for (let tag = 1; tag <= 2; tag++)
      session.hypercallReply({ tag, errno: 0, bytes: new Uint8Array(0) });
    expect(await settle()).toHaveLength(Limits.HYPERCALLS + 2);
    close();
    await Promise.all(calls);
  });

  it("posts into nothing and refuses calls while there is no link", async () => {
    const hypervisor = new Hypervisor();
    hypervisor.event(3);
    hypervisor.xenstore(pack("x"));
    hypervisor.grants(1, new Uint8Array(12), 1);
    await expect(hypervisor.hypercall(32, 4, new Uint8Array(4))).rejects.toMatchObject({
      errno: 0,
    });
  });
});
