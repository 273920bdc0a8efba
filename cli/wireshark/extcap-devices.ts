/** Reads the ports of several devices, all at the same time. */

import { httpUrl } from "../../shared/transport/address.ts";
import { getPage } from "../common/device-page.ts";
import { variableOf } from "../common/environment.ts";
import { messageOf } from "../common/failure.ts";
import type { Reach } from "../common/options.ts";
import type { DeviceFacts, PortFacts } from "./extcap-sentences.ts";

/** Time (ms) for an answer. Wireshark shows no list until every extcap program has answered. */
const ANSWER_MS = 1500;

/** Returns facts about each device, which include any problem. Never rejects. */
export function askDevices(devices: readonly string[]): Promise<DeviceFacts[]> {
  return Promise.all(devices.map(askDevice));
}

/** Wireshark passes no credentials. They come from the environment, as those of all commands. */
export function reachOf(connect: string, env: NodeJS.ProcessEnv = process.env): Reach {
  const of = (flag: string) => env[variableOf(flag)] || undefined;
  return { connect, ca: of("ca"), cert: of("cert"), key: of("key"), token: of("token") };
}

async function askDevice(written: string): Promise<DeviceFacts> {
  let device = written;
  try {
    device = shortName(written);
    const { value } = await getPage(reachOf(device), "/status", ANSWER_MS);
    return { device, ports: portsOf(value) };
  } catch (error) {
    // The advice behind the semicolon is too long for a list.
    const problem = messageOf(error).split(";")[0] ?? "";
    return { device: device.replaceAll(/[\s@{}]/g, "_"), ports: [], problem };
  }
}

/** Returns HOST:PORT for http. For https the scheme is kept. */
const shortName = (written: string): string => httpUrl(written, "").replace(/^http:\/\//, "");

/** Returns the ports of a status page. Throws for any other page. */
function portsOf(page: object): PortFacts[] {
  const { segments, nics } = page as { segments?: unknown; nics?: unknown };
  if (!Array.isArray(segments) || !Array.isArray(nics)) throw new Error("no page of a device");
  type Named = { readonly name?: unknown; readonly segment?: unknown } | null;
  const names = new Set((nics as Named[]).map((nic) => `${nic?.segment}/${nic?.name}`));
  return (segments as (Named & { ports?: unknown })[]).flatMap((segment) => {
    const ports = segment?.ports;
    if (!Array.isArray(ports)) throw new Error("no page of a device");
    return (ports as { name?: unknown; kind?: unknown }[]).flatMap((port) => {
      const { name, kind } = port ?? {};
      const whole = segments.length > 1 ? `${segment?.name}/${name}` : name;
      // A name of another form could not be parsed out of an interface's name.
      if (typeof whole !== "string" || !/^[^@\s+{}]+$/.test(whole)) return [];
      return [{ name: whole, kind: String(kind), isNic: names.has(`${segment?.name}/${name}`) }];
    });
  });
}
