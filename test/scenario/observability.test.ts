/**
 * The files of deploy/ that read metrics: every metric and every label of the dashboard and of the
 * alert rules is in the /metrics of a real device or frontend.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { DeviceProcess } from "../support/device-process.ts";
import { Namespace, whyNoNamespaces } from "../support/netns.ts";
import { eventually, ROOT, runRingwire, startRingwire } from "../support/process.ts";
import { mmio, RawFrontend } from "../support/raw-frontend.ts";

const DEPLOY = join(ROOT, "deploy");
const RULES = join(DEPLOY, "prometheus/alerts.yml");
const PROMTOOL = "/usr/bin/promtool";
/** Labels and metrics that Prometheus itself adds. */
const OF_PROMETHEUS = new Set(["instance", "job"]);
const SCRAPE_METRICS = new Set(["up"]);
/** An uplink needs a TAP, and a TAP of a test has a namespace of its own. */
const hasTap = whyNoNamespaces() === undefined;

interface Query {
  readonly where: string;
  readonly expr: string;
  /** Names of labels outside the expression: in legends and texts. */
  readonly labels: readonly string[];
}

/** Labels of {{label}} and {{ $labels.label }}. */
const labelsIn = (text: string): string[] =>
  [...text.matchAll(/\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}/g)].map(([, name]) => name!);

function alerts(): Query[] {
  const { groups } = parse(readFileSync(RULES, "utf8")) as {
    groups: { rules: { alert: string; expr: string; annotations: Record<string, string> }[] }[];
  };
  return groups.flatMap(({ rules }) =>
    rules.map(({ alert: where, expr, annotations }) => ({
      ...{ where, expr },
      labels: Object.values(annotations).flatMap(labelsIn),
    })),
  );
}

interface Panel {
  readonly title: string;
  readonly targets?: readonly { expr: string; legendFormat?: string }[];
}

function dashboard(): Query[] {
  const { panels, templating } = JSON.parse(
    readFileSync(join(DEPLOY, "grafana/dashboard.json"), "utf8"),
  ) as {
    panels: Panel[];
    templating: { list: { name: string; definition?: string }[] };
  };
  const asked = panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr, legendFormat = "" }) => ({
      ...{ where: title, expr },
      labels: labelsIn(legendFormat),
    })),
  );
  const chosen = templating.list.flatMap(({ name: where, definition = "" }) => {
    const [, expr, label] = /^label_values\((.+), ([a-z_]+)\)$/.exec(definition) ?? [];
    return expr === undefined ? [] : [{ where, expr, labels: [label!] }];
  });
  return [...asked, ...chosen];
}

/** Metrics of an expression, each with the labels of its selector. */
function selectorsOf(expr: string): { name: string; labels: string[] }[] {
  const bare = expr.replace(/"[^"]*"/g, '""');
  const metrics = /\b((?:ringwire|process|nodejs)_[a-z_]+|up)\b(?:\{([^}]*)\})?/g;
  return [...bare.matchAll(metrics)].map(([, name, labels = ""]) => ({
    name: name!,
    labels: [...labels.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label!),
  }));
}

/** Labels that `by` and `on` name. */
const groupedBy = (expr: string): string[] =>
  [...expr.matchAll(/\b(?:by|on|without|ignoring) \(([^)]*)\)/g)].flatMap(([, names]) =>
    names!.split(",").map((name) => name.trim()),
  );

/** The labels of each metric of pages of /metrics. */
const known = new Map<string, Set<string>>();

function learn(page: string): void {
  for (const [, name, labels = ""] of page.matchAll(/^([a-z_]+)(?:\{(.*)\})? \S+$/gm)) {
    const names = known.get(name!) ?? new Set<string>();
    known.set(name!, names);
    for (const [, label] of labels.matchAll(/([a-z_]+)="(?:[^"\\]|\\.)*"/g)) names.add(label!);
  }
}

const ends = new AsyncDisposableStack();

beforeAll(async () => {
  const uplink: string[] = [];
  if (hasTap) {
    const namespace = new Namespace("watched");
    ends.defer(() => namespace.destroy());
    namespace.ip("link", "set", "lo", "up");
    // From here on all processes and requests of this file are inside.
    ends.use(namespace.enter());
    uplink.push("--uplink", "tap:lab0");
  }
  const device = await DeviceProcess.start(...uplink);
  ends.use(device);
  for (const driver of ["ena", "xen"]) {
    const args = ["frontend", "--connect", device.url, "--driver", driver, "--json"];
    const nic = startRingwire([...args, "--listen", "127.0.0.1:0"]);
    ends.use(nic);
    const { url } = await nic.waitForJson<{ url: string }>((l) => l["event"] === "listening");
    await nic.waitForJson((line) => line["event"] === "ready");
    learn(await (await fetch(`${url}/metrics`)).text());
  }
  // A fault, drops and a refusal: their metrics exist from the first on.
  const raw = await RawFrontend.join(device.port, "rogue");
  raw.batch(mmio(0, 1));
  await raw.until("the fault", ([what]) => what === "fault");
  const send = ["pkt-gen", "-i", "netmap:ena9", "-f", "tx", "-n", "9", "-S", "01:00:5e:00:00:01"];
  await runRingwire([...send, "--connect", device.url]);
  await fetch(`${device.url}/nic`, { headers: { "sec-fetch-site": "cross-site" } });
  await fetch(`${device.url}/livez`, { headers: { origin: "http://evil.example" } });
  const page = async () => await (await fetch(`${device.url}/metrics`)).text();
  await eventually("a round trip", async () =>
    /round_trip_seconds_count [1-9]/.test(await page()) ? true : undefined,
  );
  learn(await page());
  await raw.end();
});

afterAll(() => ends.disposeAsync());

const queries = [
  ...alerts().map((query) => ["alert", query.where, query] as const),
  ...dashboard().map((query) => ["dashboard", query.where, query] as const),
];

it("the files have queries, and the reader of queries finds their parts", () => {
  expect(queries.length).toBeGreaterThan(40);
  expect(selectorsOf('a(ringwire_x{b="}", c=~"d"}[5m]) / on (e) ringwire_y')).toEqual([
    { name: "ringwire_x", labels: ["b", "c"] },
    { name: "ringwire_y", labels: [] },
  ]);
  expect(groupedBy("sum by (a, b) (x) + on (c) y")).toEqual(["a", "b", "c"]);
  expect(labelsIn("{{ $labels.a }} and {{b}}")).toEqual(["a", "b"]);
});

describe("every metric and label is served", () => {
  it.each(queries)("%s %s", (_kind, _where, { expr, labels }) => {
    const selectors = selectorsOf(expr);
    expect(selectors).not.toHaveLength(0);
    const all = new Set<string>(OF_PROMETHEUS);
    for (const { name, labels: selected } of selectors) {
      if (SCRAPE_METRICS.has(name)) continue;
      if (name === "ringwire_uplink_up" && !hasTap) return;
      const there = known.get(name);
      expect(there, `${name} is in no /metrics`).toBeDefined();
      for (const label of there!) all.add(label);
      for (const label of selected) {
        const isThere = there!.has(label) || OF_PROMETHEUS.has(label);
        expect(isThere, `${name} has no label ${label}`).toBe(true);
      }
    }
    for (const label of [...labels, ...groupedBy(expr)]) {
      expect(all.has(label), `no metric of ${expr} has the label ${label}`).toBe(true);
    }
  });
});

it.skipIf(!existsSync(PROMTOOL))("promtool accepts the rules", () => {
  const { status, stdout, stderr } = spawnSync(PROMTOOL, ["check", "rules", RULES], {
    encoding: "utf8",
  });
  expect(status, `${stdout}${stderr}`).toBe(0);
});
