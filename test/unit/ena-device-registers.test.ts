import { describe, expect, test } from "vitest";
import { createEnaNic } from "../../device/ena/index.ts";
import { FeatureId, hostAttr } from "../../shared/ena/features.ts";
import { hostInfo } from "../../shared/ena/host-info.ts";
import {
  capsReg,
  DevSts,
  devCtlReg,
  REGISTER_READ_FAILED,
  Register,
} from "../../shared/ena/registers.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost } from "../support/fake-host.ts";
import { RecordingLog } from "../support/recording-log.ts";

function rig() {
  const host = new FakeHost();
  const nic = createEnaNic(host);
  return { host, nic, twin: new EnaTwin(nic, host) };
}

describe("BAR 0", () => {
  test("says what a probing driver insists on", () => {
    const { twin } = rig();
    const caps = twin.read32(Register.CAPS);
    expect(capsReg.resetTimeout(caps)).toBeGreaterThan(0);
    expect(capsReg.dmaWidthBits(caps)).toBe(48);
    expect(caps & 1).toBe(1);
    expect(twin.read32(Register.CONTROLLER_VERSION) & 0xffffff).toBeGreaterThanOrEqual(1);
    expect(twin.read32(Register.DEV_STS)).toBe(DevSts.READY);
  });

  test("reset is seen in progress until DEV_CTL is written 0", () => {
    const { host, nic, twin } = rig();
    twin.write32(Register.DEV_CTL, devCtlReg.packReset(18, true));
    expect(twin.read32(Register.DEV_STS)).toBe(DevSts.RESET_IN_PROGRESS);
    // Here drivers write MMIO_RESP again, and poll through it.
    twin.setResponse();
    expect(twin.readless(Register.DEV_STS)).toBe(DevSts.RESET_IN_PROGRESS);
    twin.write32(Register.DEV_CTL, 0);
    expect(twin.readless(Register.DEV_STS)).toBe(DevSts.READY);
    expect(nic.snapshot().lastReset).toBe("MISSING_ADMIN_INTERRUPT");
    expect(host.takeFaults()).toEqual([]);
  });

  test("reset forgets MMIO_RESP and says so", () => {
    const { host, twin } = rig();
    twin.setResponse();
    twin.write32(Register.DEV_CTL, devCtlReg.packReset(0, true));
    expect(twin.readless(Register.DEV_STS)).toBeUndefined();
    expect(host.takeFaults()).toEqual(["MMIO_RESP_UNSET"]);
  });

  test("a readless answer shows value and offset before the request id", () => {
    const { host, twin } = rig();
    twin.setResponse();
    twin.readless(Register.CAPS);
    expect(host.memory.writes).toEqual([
      { address: twin.responseAddress + 2, length: 6, type: RecordType.MMIO_RESPONSE },
      { address: twin.responseAddress, length: 2, type: RecordType.MMIO_RESPONSE },
    ]);
  });

  test("no register reads as a failed read, defined or not", () => {
    const { nic, twin } = rig();
    for (let offset = 0; offset < 0x8000; offset += 4) {
      expect(twin.read32(offset)).not.toBe(REGISTER_READ_FAILED);
    }
    expect(twin.read32(0x48)).toBe(0);
    // A byte from the middle of CAPS: its DMA width.
    expect(nic.pci.mmioRead(0, Register.CAPS + 1, 1)).toEqual(Uint8Array.of(48));
    expect(nic.pci.mmioRead(2, 0, 4)).toEqual(new Uint8Array(4));
  });

  test.each([
    ["a register that is not there", 0x48],
    ["a read-only register", Register.CAPS],
    ["the MSI-X table", 0x4000],
  ])("a write to %s is named", (_what, offset) => {
    const { host, twin } = rig();
    twin.write32(offset, 1);
    expect(host.takeFaults()).toEqual(["REGISTER_UNDEFINED"]);
  });

  test.each([
    [1, 0, 4],
    [0, 2, 4],
    [0, 0, 3],
    [0, 0x8000, 4],
  ])("a write to BAR %i offset %i of %i bytes is no register access", (bar, offset, length) => {
    const { host, nic } = rig();
    nic.pci.mmioWrite(bar, offset, new Uint8Array(8), 0, length);
    expect(host.takeFaults()).toEqual(["MMIO_BAD_ACCESS"]);
  });

  test("registers that need a running device say so during reset", () => {
    const { host, twin } = rig();
    twin.write32(Register.DEV_CTL, devCtlReg.packReset(0, true));
    for (const offset of [Register.AQ_DB, Register.AENQ_HEAD_DB, 0x1000, 0x2000, 0x3000]) {
      twin.write32(offset, 1);
    }
    expect(host.takeFaults()).toEqual(Array.from({ length: 5 }, () => "REGISTER_IN_RESET"));
  });
});

describe("the order of initialisation", () => {
  test("AQ_DB before the admin ring is refused by name until a reset", async () => {
    const { host, twin } = rig();
    twin.setResponse();
    twin.write32(Register.AQ_DB, 1);
    expect(host.takeFaults()).toEqual(["AQ_NOT_CONFIGURED"]);
    expect(twin.read32(Register.DEV_STS)).toBe(DevSts.READY | DevSts.FATAL_ERROR);
    await twin.attach();
    expect(twin.read32(Register.DEV_STS)).toBe(DevSts.READY);
  });

  test("the first command before the event ring is refused, with the reason", () => {
    const { host, twin } = rig();
    twin.initAdmin();
    twin.write32(Register.AENQ_CAPS, 0);
    twin.write32(Register.AQ_DB, 1);
    expect(host.faults[0]?.code).toBe("AENQ_NOT_CONFIGURED");
    expect(host.faults[0]?.text).toContain("set up the event ring first");
    expect(twin.read32(Register.DEV_STS) & DevSts.FATAL_ERROR).not.toBe(0);
  });

  test("AENQ_HEAD_DB before the event ring is named and harmless", () => {
    const { host, twin } = rig();
    twin.write32(Register.AENQ_HEAD_DB, 16);
    expect(host.takeFaults()).toEqual(["AENQ_NOT_CONFIGURED"]);
    expect(twin.read32(Register.DEV_STS)).toBe(DevSts.READY);
  });
});

describe("reset", () => {
  test("each reason is counted by name, and everything is dropped every time", async () => {
    const { host, nic, twin } = rig();
    for (let reason = 0; reason <= 20; reason++) {
      await twin.attach();
      await twin.createQueue(1, 8, 1);
      await twin.createQueue(2, 8, 1);
      twin.reset(reason);
      const snapshot = nic.snapshot();
      expect(snapshot.tx).toEqual([]);
      expect(snapshot.rx).toEqual([]);
    }
    const resets = nic.snapshot().resets;
    // Each attach adds a reset with reason 0.
    expect(resets["NORMAL"]).toBe(22);
    expect(Object.keys(resets)).toHaveLength(21);
    expect(host.takeFaults()).toEqual([]);
  });

  test("attack-S2c a thousand resets write one log line, and a second later one that counts the others", () => {
    const host = new FakeHost();
    const log = new RecordingLog();
    host.log = log;
    const nic = createEnaNic(host);
    const twin = new EnaTwin(nic, host);
    for (let i = 0; i < 1000; i++) twin.reset();
    // ux-C3: every driver begins with a reset.
    expect(log.debugs.filter((line) => line === "ena: reset")).toHaveLength(1);
    expect(log.infos).toEqual(["ena: reset"]);
    host.clock.advance(1000);
    nic.tick();
    expect(log.infos).toEqual(["ena: reset", "ena: reset (and 997 more like it)"]);
    twin.reset();
    twin.reset();
    nic.destroy();
    expect(log.infos.at(-1)).toBe("ena: reset (and 1 more like it)");
  });

  test("attack-S2c resets beyond 64 in one batch are one reset in the next turn", async () => {
    const host = new FakeHost();
    const twin = new EnaTwin(createEnaNic(host), host);
    const { counters } = twin.nic.snapshot();
    const resets = (): number => twin.nic.snapshot().counters.resets - counters.resets;
    const inReset = (): boolean => (twin.read32(Register.DEV_STS) & DevSts.RESET_IN_PROGRESS) !== 0;
    for (let i = 0; i < 1000; i++) {
      twin.askForReset(5);
      twin.write32(Register.DEV_CTL, 0);
    }
    // The device takes nothing until that reset is done.
    expect([resets(), inReset()]).toEqual([64, true]);
    twin.nic.batchEnd();
    await twin.settle();
    expect([resets(), inReset()]).toEqual([65, true]);
    twin.write32(Register.DEV_CTL, 0);
    expect(inReset()).toBe(false);
    await twin.attach();
    expect(twin.nic.snapshot().status).toBe("ready");
    for (let i = 0; i < 100; i++) twin.askForReset(5);
    twin.nic.destroy();
    await twin.settle();
    expect(twin.nic.snapshot().counters.resets).toBeLessThan(200);
  });

  test("attack-S11 a driver that sends its host information without end writes one log line a second", async () => {
    const host = new FakeHost();
    const log = new RecordingLog();
    host.log = log;
    const nic = createEnaNic(host);
    const twin = new EnaTwin(nic, host);
    await twin.attach();
    log.debugs.length = 0;
    const osInfoBa = twin.alloc(hostInfo.size);
    const statuses = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const done = await twin.setFeature(FeatureId.HOST_ATTR_CONFIG, hostAttr, { osInfoBa });
      statuses.add(done.status);
    }
    expect([...statuses]).toEqual([0]);
    expect(log.debugs).toEqual(["ena: host information"]);
    expect(log.infos).toEqual([]);
  });
});
