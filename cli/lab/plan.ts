/** The processes of a lab that belong to a host, as command lines of this program. */
import { createHash } from "node:crypto";
import type { Table } from "../config/toml.ts";
import { connectOf, type Lab, type LabCapture, type LabNic } from "./model.ts";

export interface LabPart {
  /** One of a kind in the lab: "device", "nic pc1", "capture all.pcapng". */
  readonly id: string;
  readonly argv: readonly string[];
  /** Differs when the part must be started again, because the file has changed. */
  readonly key: string;
  /** The event that says that the part is up. */
  readonly ready: "listening" | "ready";
  readonly nic?: LabNic;
}

export interface LabPlan {
  readonly device: LabPart | undefined;
  readonly nics: readonly (LabPart & { readonly nic: LabNic })[];
  /** Captures that need no NIC, and begin before the first. */
  readonly early: readonly LabPart[];
  /** Captures at named NICs or uplinks. */
  readonly late: readonly LabPart[];
  /** Network namespaces of the NICs. */
  readonly namespaces: readonly string[];
}

/** Sources of a capture that are there without any NIC. */
const ALWAYS = new Set(["any", "switch"]);

/** Returns what belongs to `host`; all of a lab without hosts. */
export function planOf(lab: Lab, host: string | undefined): LabPlan {
  const isHere = (part: { readonly host: string | undefined }): boolean => part.host === host;
  const nics = lab.nics.filter(isHere);
  const captures = lab.captures.filter(isHere);
  const isEarly = ({ interfaces }: LabCapture): boolean => interfaces.every((i) => ALWAYS.has(i));
  const names = nics.flatMap(({ netns }) => netns ?? []);
  return {
    device: lab.device !== undefined && isHere(lab.device) ? devicePart(lab) : undefined,
    nics: nics.map((nic) => nicPart(lab, nic)),
    early: captures.filter(isEarly).map((capture) => capturePart(lab, capture)),
    late: captures.filter((capture) => !isEarly(capture)).map((part) => capturePart(lab, part)),
    namespaces: [...new Set(names)],
  };
}

/** All parts of a plan, the device first. */
export const partsOf = ({ device, nics, early, late }: LabPlan): LabPart[] => [
  ...(device === undefined ? [] : [device]),
  ...early,
  ...nics,
  ...late,
];

/** The device reads the file itself, because no flag can say what a segment has. */
function devicePart(lab: Lab): LabPart {
  const argv = ["device", "--json", `--config=${lab.file}`];
  const key = keyOf([argv, lab.device?.flags, lab.rawSegments]);
  return { id: "device", argv, key, ready: "listening" };
}

function nicPart(lab: Lab, nic: LabNic) {
  const argv = ["frontend", "--json", "--wait", ...argvOf(lab, nic)];
  const { addresses, routes } = nic;
  const key = keyOf([argv, addresses, routes]);
  return { id: `nic ${nic.name}`, argv, key, ready: "ready", nic } as const;
}

function capturePart(lab: Lab, capture: LabCapture): LabPart {
  const argv = ["capture", "--json", "--wait", ...argvOf(lab, capture)];
  return { id: `capture ${capture.write}`, argv, key: keyOf(argv), ready: "ready" };
}

/** Returns the flags of a part, and where it connects. */
function argvOf(lab: Lab, part: LabNic | LabCapture): string[] {
  const connect = connectOf(lab, part);
  return flagsOf({ ...part.flags, ...(connect === undefined ? {} : { connect }) });
}

/** A value is joined to its flag, so that it may begin with a hyphen. */
const flagsOf = (flags: Table): string[] =>
  Object.entries(flags).flatMap(([name, value]) => {
    if (typeof value === "boolean") return value ? [`--${name}`] : [];
    return [value].flat().map((item) => `--${name}=${String(item)}`);
  });

const keyOf = (value: unknown): string =>
  createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);
