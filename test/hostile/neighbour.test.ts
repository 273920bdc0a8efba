/** Tests the neighbour itself: it must notice harm, or its silence proves nothing. */
import { expect, it } from "vitest";
import { parseUnicastMac } from "../../shared/net/ethernet.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { eventually } from "../support/process.ts";
import { broadcast, RawEna } from "../support/raw-ena.ts";
import { portOf } from "../support/status.ts";

it("notices a forged frame between the two, and a link that was cut", async () => {
  const stage = await HostileStage.open();
  try {
    expect(await stage.neighbour.complaints()).toEqual([]);
    await stage.unharmed();

    const { nics } = await stage.status();
    const macOf = (whose: string) => {
      const nic = nics.find((each) => each.name === whose) as unknown as { mac: string };
      return parseUnicastMac(nic.mac);
    };
    const forged = broadcast(100, [...macOf("pair-a")]);
    forged.set(macOf("pair-b"), 0);
    forged.writeUInt16BE(0x88b5, 12);

    // A stranger can't forge frames: a NIC's address is accepted at its own port only.
    const name = stage.name();
    const stranger = await RawEna.startWithQueues(stage.port, name);
    stranger.ena.transmit(stranger.tx, forged);
    expect(await stranger.ena.raw.survived()).toBe(true);
    expect(portOf(await stage.status(), name).in.dropped).toEqual({ mac_spoof: 1 });
    await stranger.ena.raw.end();
    expect(await stage.neighbour.complaints()).toEqual([]);

    // A stranger that takes over the name has the address too. A NIC of the pair loses its link,
    // and reconnects.
    const thief = await RawEna.startWithQueues(stage.port, "pair-a", true, { takeOver: true });
    thief.ena.transmit(thief.tx, forged);
    expect(await thief.ena.raw.survived()).toBe(true);
    await thief.ena.raw.end();
    await eventually("the pair", async () => {
      const { reconnects } = await stage.neighbour.counts();
      return reconnects > 0 ? true : undefined;
    });
    const complaints = (await stage.neighbour.complaints()).join("\n");
    expect(complaints).toMatch(/a to b: 1 frames are not as they were sent/);
    expect(complaints).toMatch(/the pair lost its links 1 times/);
  } finally {
    await stage.close();
  }
});
