/** A device whose certificate expires and is renewed, and a NIC that was connected before. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { CERTIFICATES, KEY } from "../support/certificates.ts";
import { type Child, eventually, startRingwire } from "../support/process.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-renewal-"));
const file = (name: string): string => join(folder, name);
const children: Child[] = [];
afterAll(async () => {
  for (const child of children) await child.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function device(port: number): Promise<{ child: Child; port: number }> {
  const child = startRingwire([
    ...["device", "--listen", `127.0.0.1:${port}`, "--json"],
    ...["--cert", file("cert.pem"), "--key", file("key.pem")],
  ]);
  children.push(child);
  const ready = await child.waitForJson<{ port: number }>((line) => line["event"] === "listening");
  return { child, port: ready.port };
}

const count = (text: string, part: string): number => text.split(part).length - 1;

it("fault-K11 an expired certificate is one line and tries that go on; a renewed one brings the NIC back", async () => {
  writeFileSync(file("key.pem"), KEY, { mode: 0o600 });
  writeFileSync(file("cert.pem"), CERTIFICATES.SELF_SIGNED);
  writeFileSync(file("ca.pem"), CERTIFICATES.SELF_SIGNED + CERTIFICATES.EXPIRED);
  const first = await device(0);
  const url = `wss://127.0.0.1:${first.port}`;
  const nic = startRingwire([
    ...["frontend", "--connect", url, "--ca", file("ca.pem"), "--name", "stays", "--json"],
  ]);
  children.push(nic);
  await nic.waitForJson((line) => line["event"] === "ready");
  await first.child.stop();

  writeFileSync(file("cert.pem"), CERTIFICATES.EXPIRED);
  const second = await device(first.port);
  await eventually("tries", () => count(nic.stdout, "has expired") >= 3 || undefined);
  expect(count(nic.stderr, "has expired")).toBe(1);
  expect(nic.stderr).toMatch(/the certificate of .* has expired .*have it renewed/);
  expect([nic.exit, second.child.exit]).toEqual([undefined, undefined]);

  writeFileSync(file("cert.pem"), CERTIFICATES.SELF_SIGNED);
  second.child.signal("SIGHUP");
  await nic.waitForJson((line) => line["event"] === "link-back");
});
