/** The witness itself: a neighbour that can't see harm would vouch for anything. */
import { expect, it } from "vitest";
import { parseUnicastMac } from "../../shared/net/ethernet.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { broadcast, RawEna } from "../support/raw-ena.ts";

it("notices a forged frame between the two, and a link that was cut", async () => {
  const stage = await HostileStage.open();
  try {
    expect(await stage.neighbour.complaints()).toEqual([]);
    await stage.unharmed();

    const { nics } = await stage.status();
    const macOf = (name: string) => {
      const nic = nics.find((each) => each.name === name) as unknown as { mac: string };
      return parseUnicastMac(nic.mac);
    };
    const { ena, tx } = await RawEna.startWithQueues(stage.port, stage.name());
    const forged = broadcast(100, [...macOf("pair-a")]);
    forged.set(macOf("pair-b"), 0);
    forged.writeUInt16BE(0x88b5, 12);
    ena.transmit(tx, forged);
    expect(await ena.raw.survived()).toBe(true);
    await ena.raw.end();
    const complaints = await stage.neighbour.complaints();
    expect(complaints.join("\n")).toMatch(/a to b: 1 frames are not as they were sent/);

    // The name of one of the pair is taken: it gives up, and its traffic ends.
    const thief = await RawEna.start(stage.port, "pair-b");
    await thief.raw.end();
    await expect(stage.neighbour.complaints()).rejects.toThrow(/no port pair-b/);
  } finally {
    await stage.close();
  }
});
