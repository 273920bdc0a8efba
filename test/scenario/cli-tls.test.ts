/**
 * A TLS proxy in front of a device: defects of its certificate, and the configuration that works.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CERTIFICATES, KEY } from "../support/certificates.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { runRingwire, startRingwire } from "../support/process.ts";

type Kind = keyof typeof CERTIFICATES;
const KINDS = Object.keys(CERTIFICATES) as Kind[];

const folder = mkdtempSync(join(tmpdir(), "ringwire-tls-"));
const fileOf = (kind: Kind): string => join(folder, `${kind}.pem`);
const closers: (() => void)[] = [];
const ports = new Map<Kind | "silent", number>();
let device: DeviceProcess;

async function listening(server: ReturnType<typeof createServer>): Promise<number> {
  closers.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

beforeAll(async () => {
  device = await DeviceProcess.start();
  for (const kind of KINDS) {
    const cert = CERTIFICATES[kind];
    writeFileSync(fileOf(kind), cert);
    const proxy = createTlsServer({ key: KEY, cert }, (socket) => {
      const behind = connect(device.port, "127.0.0.1");
      socket.on("error", () => behind.destroy());
      behind.on("error", () => socket.destroy());
      socket.pipe(behind).pipe(socket);
    });
    proxy.on("tlsClientError", () => {});
    ports.set(kind, await listening(proxy));
  }
  const silent = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end());
  });
  ports.set("silent", await listening(silent));
});

afterAll(async () => {
  await device.stop();
  for (const close of closers) close();
  rmSync(folder, { recursive: true });
});

interface Row {
  readonly kind: Kind | "silent";
  /** The certificate's file is trusted, so that its other defect is found. */
  readonly trusted: boolean;
  readonly says: RegExp;
}

const ROWS: readonly Row[] = [
  {
    kind: "SELF_SIGNED",
    trusted: false,
    says: /does not trust the certificate of .*--ca/,
  },
  {
    kind: "OF_A_STRANGER",
    trusted: false,
    says: /does not trust the certificate of .*--ca/,
  },
  { kind: "OTHER_NAME", trusted: true, says: /certificate of .* was issued for other names/ },
  { kind: "EXPIRED", trusted: true, says: /certificate of .* has expired .*clocks/ },
  { kind: "EARLY", trusted: true, says: /certificate of .* is not valid yet .*clocks/ },
  { kind: "silent", trusted: false, says: /broke the connection off; if it speaks no TLS use/ },
];
const COMMANDS = [
  ["frontend", "wss"],
  ["status", "https"],
  ["capture -w /dev/null", "https"],
  ["migrate a --to 127.0.0.1:9 --wait 0", "https"],
] as const;

describe.each(ROWS)("ux-P7 a proxy with $kind", ({ kind, trusted, says }) => {
  it.each(COMMANDS)("is refused by %s with what to do", async (command, scheme) => {
    const env = trusted ? { NODE_EXTRA_CA_CERTS: fileOf(kind as Kind) } : {};
    const to = ["--connect", `${scheme}://127.0.0.1:${ports.get(kind)}`];
    const child = await runRingwire([...command.split(" "), ...to], { env });
    expect(child.exit, child.said()).toEqual({ code: 1, signal: null });
    expect(child.stderr).toMatch(says);
    expect(child.stderr).not.toMatch(/use-system-ca|not a ringwire device's port/);
    expect(child.stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(child.stdout).toBe("");
  });
});

describe("ux-P7 a proxy whose certificate is trusted", () => {
  it("leads to the device: NIC and pages", async () => {
    const env = { NODE_EXTRA_CA_CERTS: fileOf("SELF_SIGNED") };
    const place = `localhost:${ports.get("SELF_SIGNED")}`;
    await using nic = startRingwire(["frontend", "--connect", `wss://${place}`, "--json"], { env });
    await nic.waitForJson((line) => line["event"] === "ready");
    const status = await runRingwire(["status", "--connect", `https://${place}`, "--json"], {
      env,
    });
    expect(status.exit, status.said()).toEqual({ code: 0, signal: null });
    expect(JSON.parse(status.stdout).nics).toHaveLength(1);
  });
});
