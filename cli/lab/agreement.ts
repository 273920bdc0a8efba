/** What the parts of a lab must agree on: names of one kind, hosts and segments that exist, files. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { resolve } from "node:path";
import { parseHostPort } from "../../shared/transport/address.ts";
import { checkPair } from "../common/credentials.ts";
import { messageOf, systemCode } from "../common/failure.ts";
import { similar } from "../common/similar.ts";
import { either, type Issue } from "../config/issues.ts";
import type { Path, Table } from "../config/toml.ts";
import { isLoopback, SEGMENT_FLAGS } from "../device.ts";
import { plainIp } from "./address.ts";
import { hasNumber } from "./classes.ts";
import { connectOf, isTable, type Lab, type LabNic, textOf } from "./model.ts";

/** Keys that name a file. */
const FILES = ["cert", "key", "ca", "tokens", "token"];

/** Returns the mistakes of a lab whose parts have the right form. `raw` is the file as written. */
export function agreement(lab: Lab, raw: Table): Issue[] {
  const parts = [lab.device, ...lab.nics, ...lab.captures].filter((part) => part !== undefined);
  return [
    ...twice(lab),
    ...parts.flatMap((part) => hostIssues(lab, part)),
    ...parts.flatMap(({ path, flags }) => fileIssues(lab.folder, path, flags)),
    ...deviceIssues(lab),
    ...lab.nics.flatMap((nic) => nicIssues(lab, nic)),
    ...classIssues(raw),
    ...reachIssues(lab),
  ];
}

/** Values that two parts have, where only one may. */
function twice(lab: Lab): Issue[] {
  const { nics } = lab;
  const at = (nic: LabNic, key: string): Path => [...nic.path, key];
  const place = ({ host, netns }: LabNic): string =>
    [netns && ` in namespace ${netns}`, host && ` on host ${host}`].join("");
  const named = (kind: string, names: readonly { readonly name: string }[]): Issue[] =>
    repeated(names.map(({ name }, i) => [name, [kind, i, "name"]])).map(([name, path]) => ({
      path,
      message: `"${name}" is there twice: another ${kind} has that name`,
    }));
  return [
    ...named("host", lab.hosts),
    ...named("segment", lab.segments),
    ...repeated(nics.map((nic) => [nic.name, at(nic, "name")])).map(([name, path]) => ({
      path,
      message: `"${name}" is there twice: the names of a device's NICs differ`,
    })),
    ...repeated(
      nics.flatMap((nic) =>
        nic.tap === undefined ? [] : [[`${nic.tap}${place(nic)}`, at(nic, "tap")] as const],
      ),
    ).map(([name, path]) => ({
      path,
      message: `${name} is there twice: another NIC has that TAP`,
    })),
    ...repeated(
      nics.flatMap((nic) =>
        nic.mac === undefined ? [] : [[`${nic.mac} on ${nic.segment}`, at(nic, "mac")] as const],
      ),
    ).map(([mac, path]) => ({
      path,
      message: `${mac} is there twice: another NIC has that address`,
    })),
    ...repeated(
      nics.flatMap((nic) =>
        nic.addresses.map(
          (address) => [`${plainIp(address)} on ${nic.segment}`, at(nic, "addresses")] as const,
        ),
      ),
    ).map(([ip, path]) => ({ path, message: `has ${ip}, which another NIC has, too` })),
    ...repeated(
      lab.captures.map(({ write, host, path }) => [
        `${host ?? ""} ${resolve(lab.folder, write)}`,
        [...path, "write"],
      ]),
    ).map(([, path]) => ({ path, message: "is the file of another capture" })),
  ];
}

function repeated(all: readonly (readonly [string, Path])[]): [string, Path][] {
  const seen = new Set<string>();
  return all.flatMap(([value, path]): [string, Path][] => {
    if (!seen.has(value)) {
      seen.add(value);
      return [];
    }
    return [[value, path]];
  });
}

interface Placed {
  readonly path: Path;
  readonly host: string | undefined;
}

function hostIssues({ hosts }: Lab, { path, host }: Placed): Issue[] {
  const names = hosts.map(({ name }) => name);
  if (hosts.length === 0) {
    if (host === undefined) return [];
    return [{ path: [...path, "host"], message: `names "${host}", and the file has no [[host]]` }];
  }
  if (host === undefined) {
    return [{ path: [...path, "host"], message: `is needed: ${either(names)}` }];
  }
  return names.includes(host) ? [] : [unknown([...path, "host"], host, "host", names)];
}

function unknown(path: Path, name: string, kind: string, names: readonly string[]): Issue {
  const meant = similar(name, names);
  const hint = meant === "" ? `; there is ${names.join(", ")}` : ` (Did you mean ${meant}?)`;
  return { path, message: `names "${name}", and there is no such ${kind}${hint}` };
}

function fileIssues(folder: string, path: Path, flags: Table): Issue[] {
  const issues = FILES.flatMap((key): Issue[] => {
    const value = textOf(flags[key]);
    if (value === undefined || (key === "token" && !value.startsWith("@"))) return [];
    const file = resolve(folder, key === "token" ? value.slice(1) : value);
    try {
      readFileSync(file);
      return [];
    } catch (error) {
      const why = systemCode(error) === "ENOENT" ? "there is no such file" : messageOf(error);
      return [{ path: [...path, key], message: `names ${file}: ${why}` }];
    }
  });
  try {
    checkPair(textOf(flags["cert"]), textOf(flags["key"]));
  } catch (error) {
    issues.push({ path, message: messageOf(error) });
  }
  return issues;
}

function deviceIssues({ device, rawSegments }: Lab): Issue[] {
  if (device === undefined) {
    if (rawSegments === undefined) return [];
    return [{ path: ["segment"], message: "needs [device]: it is the device that has segments" }];
  }
  const { path, flags } = device;
  const issues: Issue[] = [];
  for (const key of rawSegments === undefined ? [] : Object.values(SEGMENT_FLAGS)) {
    if (flags[key] === undefined) continue;
    const message =
      "describes the only segment, and the file has segments: put it into [[segment]]";
    issues.push({ path: [...path, key], message });
  }
  if (flags["ca"] !== undefined && flags["cert"] === undefined) {
    issues.push({ path: [...path, "ca"], message: "needs cert and key" });
  }
  const listen = textOf(flags["listen"]);
  if (listen === undefined) return issues;
  try {
    const { host, port } = parseHostPort(listen);
    const isOpen = ["tokens", "ca"].every((key) => flags[key] === undefined);
    if (port === 0) {
      issues.push({
        path: [...path, "listen"],
        message: "takes a port of its own in a lab, not 0",
      });
    }
    if (isOpen && flags["insecure"] !== true && isIP(host) !== 0 && !isLoopback(host)) {
      const message = `${listen} can be reached from other hosts: add tokens or ca, or insecure = true if the network is yours alone`;
      issues.push({ path: [...path, "listen"], message });
    }
  } catch {
    // The form of listen is reported.
  }
  return issues;
}

function nicIssues({ segments }: Lab, nic: LabNic): Issue[] {
  const { path, tap, netns, segment, addresses, routes, flags } = nic;
  const names = segments.map(({ name }) => name);
  const issues: Issue[] = [];
  if (!names.includes(segment)) {
    issues.push(unknown([...path, "segment"], segment, "segment", names));
  }
  const needTap = { netns, addresses: addresses[0], routes: routes[0] };
  for (const [key, value] of Object.entries(needTap)) {
    if (value === undefined || tap !== undefined) continue;
    issues.push({ path: [...path, key], message: "needs tap: the interface that it is for" });
  }
  if (flags["untrusted"] === true && flags["driver"] !== "xen") {
    issues.push({ path: [...path, "untrusted"], message: 'goes with driver = "xen"' });
  }
  return issues;
}

function classIssues({ nic: entries }: Table): Issue[] {
  if (!Array.isArray(entries)) return [];
  return entries.filter(isTable).flatMap((entry, i): Issue[] => {
    const { count, name } = entry;
    if (count === undefined) {
      return Object.keys(entry)
        .filter((key) => hasNumber(entry[key]))
        .map((key) => ({ path: ["nic", i, key], message: "has {n}, and the entry has no count" }));
    }
    if (hasNumber(name) || name === undefined || count === 1) return [];
    const message = `needs {n}: count makes several NICs of the name "${textOf(name)}"`;
    return [{ path: ["nic", i, "name"], message }];
  });
}

/** NICs and captures on hosts that do not say how they reach the device. */
function reachIssues(lab: Lab): Issue[] {
  if (lab.device === undefined || lab.hosts.length === 0) return [];
  const hosts = lab.hosts.map(({ name }) => name);
  return [...lab.nics, ...lab.captures].flatMap((part): Issue[] => {
    const { path, host } = part;
    if (host === undefined || host === lab.device?.host || !hosts.includes(host)) return [];
    if (connectOf(lab, part) !== undefined) return [];
    const message = `is on host ${host}, which does not say how it reaches the device: set connect in its [[host]]`;
    return [{ path, message }];
  });
}
