/** A lab, as its file describes it. */
import type { PortRule } from "../../device/switch/port-options.ts";
import { bracketed, httpUrl, parseHostPort } from "../../shared/transport/address.ts";
import type { Path, Table } from "../config/toml.ts";
import type { Cidr, Route } from "./address.ts";

/** A mistake in a lab file. */
export interface LabError {
  readonly line: number;
  /** As nic[3].driver; empty for the whole file. */
  readonly place: string;
  readonly message: string;
}

/** What every part has: its place in the file, its host, and its flags as in the file. */
export interface Part {
  readonly path: Path;
  /** Undefined in a lab without hosts. */
  readonly host: string | undefined;
  readonly flags: Table;
}

export interface LabNic extends Part {
  readonly name: string;
  readonly segment: string;
  readonly tap: string | undefined;
  readonly netns: string | undefined;
  readonly mac: string | undefined;
  readonly addresses: readonly Cidr[];
  readonly routes: readonly Route[];
}

export interface LabCapture extends Part {
  readonly write: string;
  readonly interfaces: readonly string[];
}

export interface LabSegment {
  readonly name: string;
  readonly port: readonly PortRule[];
}

export interface LabHost {
  readonly name: string;
  readonly connect: string | undefined;
}

export interface Lab {
  readonly name: string;
  /** Absolute path of the file. */
  readonly file: string;
  /** Folder of the file. Paths in the file are relative to it. */
  readonly folder: string;
  readonly hosts: readonly LabHost[];
  readonly device: Part | undefined;
  readonly segments: readonly LabSegment[];
  /** The `[[segment]]` part as in the file; undefined without one. */
  readonly rawSegments: unknown;
  readonly nics: readonly LabNic[];
  readonly captures: readonly LabCapture[];
}

/**
 * Returns how a host reaches the device; undefined when the file does not say it. The device's own
 * host uses the address where the device listens.
 */
export function connectOf(lab: Lab, { host, flags }: Part): string | undefined {
  const own = textOf(flags["connect"]) ?? lab.hosts.find(({ name }) => name === host)?.connect;
  if (own !== undefined || lab.device === undefined) return own;
  if (host !== lab.device.host) return undefined;
  const listen = textOf(lab.device.flags["listen"]);
  if (listen === undefined) return undefined;
  try {
    const { host: address, port } = parseHostPort(listen);
    const here = { "0.0.0.0": "127.0.0.1", "::": "::1" }[address] ?? address;
    const place = `${bracketed(here)}${port === undefined ? "" : `:${port}`}`;
    const scheme = lab.device.flags["cert"] === undefined ? "ws" : "wss";
    return new URL(httpUrl(`${scheme}://${place}`, "/")).origin.replace(/^http/, "ws");
  } catch {
    // The form of listen is reported.
    return undefined;
  }
}

export const isTable = (value: unknown): value is Table =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
/** The text of a value of the file: numbers count as text, as they do for flags. */
export const textOf = (value: unknown): string | undefined =>
  typeof value === "string" || typeof value === "number" ? String(value) : undefined;
