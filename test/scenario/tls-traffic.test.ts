/**
 * Traffic of NICs whose links have TLS. The device and the frontends of this test are processes that
 * take their connections over from Node, which the device's status shows: nothing else has turns.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { getPage } from "../../cli/common/device-page.ts";
import { readStatus } from "../../shared/status/read.ts";
import { CERTIFICATES, KEY } from "../support/certificates.ts";
import { Neighbour } from "../support/neighbour.ts";
import { startRingwire } from "../support/process.ts";
import { sum } from "../support/status.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-tls-"));
const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
writeFileSync(cert, CERTIFICATES.SELF_SIGNED);
writeFileSync(key, KEY, { mode: 0o600 });
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

it.each(["ena", "xen"] as const)(
  "%s NICs with TLS lose no frame and change none",
  async (driver) => {
    // The frontends of the pair have no option for an issuer.
    vi.stubEnv("NODE_EXTRA_CA_CERTS", cert);
    const files = ["--cert", cert, "--key", key];
    const child = startRingwire(["device", "--listen", "127.0.0.1:0", "--json", ...files]);
    try {
      const { port } = await child.waitForJson<{ port: number }>((line) => "port" in line);
      const url = `https://127.0.0.1:${port}`;
      const status = async () =>
        readStatus((await getPage({ connect: url, ca: cert }, "/status")).value);
      const pair = await Neighbour.start({ url, status }, [driver, driver]);
      try {
        expect(await pair.complaints()).toEqual([]);
        const { dataPath, nics } = await status();
        expect(dataPath.waits).toBe("reactor");
        expect(sum(dataPath.turns)).toBeGreaterThan(0);
        expect(nics.length).toBe(2);
      } finally {
        await pair.stop();
      }
    } finally {
      await child.stop();
    }
  },
);
