/** The ports of several devices. All devices are asked at once. */

import { httpUrl } from "../../shared/transport/address.ts";
import { getPage } from "../common/device-page.ts";
import { messageOf } from "../common/failure.ts";
import type { DeviceFacts, PortFacts } from "./extcap-sentences.ts";

/** Wireshark shows nothing until every extcap program has answered. */
const ANSWER_MS = 1500;

/** Never rejects: what is wrong with a device stands in its facts. */
export function askDevices(devices: readonly string[]): Promise<DeviceFacts[]> {
  return Promise.all(devices.map(askDevice));
}

async function askDevice(written: string): Promise<DeviceFacts> {
  let device = written;
  try {
    device = shortName(written);
    const { value } = await getPage(device, "/status", ANSWER_MS);
    return { device, ports: portsOf(value) };
  } catch (error) {
    // The advice stands behind the semicolon, and is too long for a list.
    const problem = messageOf(error).split(";")[0] ?? "";
    return { device: device.replaceAll(/[\s@{}]/g, "_"), ports: [], problem };
  }
}

/** HOST:PORT is enough for http; https keeps its scheme. */
const shortName = (written: string): string => httpUrl(written, "").replace(/^http:\/\//, "");

/** The ports of a status page. Throws when it is none. */
function portsOf(page: object): PortFacts[] {
  const { segment, nics } = page as { segment?: { ports?: unknown }; nics?: unknown };
  const ports = segment?.ports;
  if (!Array.isArray(ports) || !Array.isArray(nics)) throw new Error("no page of a device");
  const names = new Set((nics as { name?: unknown }[]).map((nic) => nic?.name));
  return (ports as { name?: unknown; kind?: unknown }[]).flatMap((port) => {
    const { name, kind } = port ?? {};
    // Names of any other form could not be found again in that of an interface.
    if (typeof name !== "string" || !/^[^@\s+{}]+$/.test(name)) return [];
    return [{ name, kind: String(kind), isNic: names.has(name) }];
  });
}
