/**
 * Answers for Wireshark's extcap interface: lines of `word {field=value}...`, and the names of NICs
 * in Wireshark's list.
 *
 *   ringwire:ena0@127.0.0.1:7700         a NIC or an uplink, or "switch", or "any"
 *   ringwire:switch+ring@127.0.0.1:7700  with the batches of the links: here of all
 *
 * A name contains all that a capture needs, so most questions need no request to a device.
 * Wireshark asks two questions about every interface each time it starts.
 *
 * Source: Wireshark: doc/extcap.adoc, doc/wsdg_src/wsdg_capture.adoc ("Adding Capture Interfaces And
 * Log Sources Using Extcap"); extcap_parser.c for the values of fields.
 */

/** One entry of Wireshark's list. */
export interface ExtcapInterface {
  /** A port of the device, "switch", or "any". */
  readonly source: string;
  /** True when the capture includes the batches of the links. */
  readonly ring: boolean;
  /** Place of the device: HOST:PORT, or a URL where HOST:PORT is not enough. */
  readonly device: string;
}

/** A port of a device's switch. */
export interface PortFacts {
  readonly name: string;
  /** Kind of the port: "ena", "xen", "tap" ... */
  readonly kind: string;
  readonly isNic: boolean;
}

/** The ports of a device, or the reason why they are not known. */
export interface DeviceFacts {
  readonly device: string;
  readonly ports: readonly PortFacts[];
  readonly problem?: string;
}

/** Most ports listed. Wireshark starts two processes for each; the dialog lists all NICs. */
const MAX_LISTED = 64;
export const MAX_SNAP = 262_144;
export const MAX_COUNT = 999_999_999;
/** Numbers of the dialog's fields. */
const Field = { DEVICE: 0, NIC: 1, RING: 2, SNAP: 3, COUNT: 4 } as const;
const RING = "+ring";

export function interfaceName({ source, ring, device }: ExtcapInterface): string {
  return `ringwire:${source}${ring ? RING : ""}@${device}`;
}

/** Parses a name of `interfaceName`; returns undefined for any other name. */
export function parseInterfaceName(name: string): ExtcapInterface | undefined {
  const [, source, ring, device] = /^ringwire:([^@\s+]+)(\+ring)?@(\S+)$/.exec(name) ?? [];
  if (source === undefined || device === undefined) return undefined;
  return { source, ring: ring !== undefined, device };
}

/** Formats a sentence. Wireshark ends a value at a brace, and a sentence at the end of the line. */
function sentence(word: string, fields: Readonly<Record<string, string | number>>): string {
  const text = Object.entries(fields).map(([name, value]) => `{${name}=${plain(String(value))}}`);
  return `${word} ${text.join("")}`;
}

function plain(text: string): string {
  return text
    .replaceAll("{", "(")
    .replaceAll("}", ")")
    .replace(/\p{C}+/gu, " ");
}

/** Returns the answer to --extcap-interfaces. */
export function interfaceSentences(
  version: string,
  help: string,
  devices: readonly DeviceFacts[],
): string[] {
  return [
    sentence("extcap", { version, help, display: "ringwire" }),
    ...devices.flatMap((facts) => deviceSentences(facts)),
  ];
}

function deviceSentences({ device, ports, problem }: DeviceFacts): string[] {
  const line = (source: string, display: string, ring = false): string =>
    sentence("interface", {
      value: interfaceName({ source, ring, device }),
      display: `ringwire: ${display}`,
    });
  // The entry names the switch, so it can be used as soon as the device is there.
  if (problem !== undefined) return [line("switch", problem)];
  const more = ports.length - MAX_LISTED;
  const those = more > 0 ? `all ${ports.length} ports` : "all ports";
  return [
    line("switch", `switch at ${device}, each frame once`),
    line("switch", `switch with all rings at ${device}`, true),
    line("any", `${those} at ${device}, a frame once at each`),
    line("any", `${those} with their rings at ${device}`, true),
    ...ports.slice(0, MAX_LISTED).map((port) => line(port.name, `${portText(port)} at ${device}`)),
  ];
}

const portText = ({ name, kind, isNic }: PortFacts): string =>
  `${isNic ? "NIC" : "uplink"} ${name} (${kind})`;

/**
 * Returns the answer to --extcap-dlts, which Wireshark shows before there is a capture. A capture
 * is pcapng and names the link type of each of its interfaces itself.
 */
export function dltSentences({ ring }: ExtcapInterface): string[] {
  const ethernet = sentence("dlt", { number: 1, name: "EN10MB", display: "Ethernet" });
  const rings = sentence("dlt", {
    number: 252,
    name: "WIRESHARK_UPPER_PDU",
    display: "ringwire batches",
  });
  return ring ? [rings, ethernet] : [ethernet];
}

/** Returns the answer to --extcap-config: the fields of the interface's dialog. */
export function configSentences(at: ExtcapInterface): string[] {
  const { source, ring, device } = at;
  const arg = (
    number: number,
    call: string,
    display: string,
    tooltip: string,
    more: Readonly<Record<string, string>>,
  ): string => sentence("arg", { number, call, display, tooltip, ...more });
  const others = ["switch", "any"].filter((name) => name !== source);
  return [
    arg(Field.DEVICE, "--device", "Device", "HOST:PORT or URL of the device", {
      type: "string",
      default: device,
    }),
    arg(Field.NIC, "--nic", "NIC", "A NIC or uplink, the switch, or any", {
      type: "selector",
      reload: "true",
      placeholder: "Ask the device",
    }),
    // An interface with rings in its name needs no field for them.
    ...(ring
      ? []
      : [
          arg(Field.RING, "--ring", "Ring transactions", "The batches of the link too", {
            type: "boolflag",
            default: "false",
          }),
        ]),
    arg(Field.SNAP, "--snap", "Snap length", "Bytes kept of a frame; 0: all of it", {
      type: "unsigned",
      range: `0,${MAX_SNAP}`,
      default: "0",
    }),
    arg(Field.COUNT, "--count", "Packets", "The capture ends after so many; 0: never", {
      type: "unsigned",
      range: `0,${MAX_COUNT}`,
      default: "0",
    }),
    nicValue(source, source, true),
    ...others.map((name) => nicValue(name, name, false)),
  ];
}

/** Returns the answer to --extcap-reload-option nic: the NICs that the device has now. */
export function nicSentences({ source }: ExtcapInterface, { ports }: DeviceFacts): string[] {
  const known = [
    { name: "switch", text: "switch" },
    { name: "any", text: "any" },
    ...ports.map((port) => ({ name: port.name, text: portText(port) })),
  ];
  return known.map(({ name, text }) => nicValue(name, text, name === source));
}

function nicValue(value: string, display: string, chosen: boolean): string {
  return sentence("value", { arg: Field.NIC, value, display, default: String(chosen) });
}
