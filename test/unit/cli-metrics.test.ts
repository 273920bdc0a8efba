import { describe, expect, it } from "vitest";
import { metricsText, RoundTrips } from "../../device/metrics.ts";
import { statusWith } from "../support/status.ts";

const snapshot = statusWith({
  agent: "ringwire/1.2.3",
  node: "v24.0.0",
  http: {
    accepted: 90,
    requests: 4,
    pages: 1,
    hellos: 2,
    refused: { host: 3, evicted: 5 },
  },
  connections: 2,
  captures: { running: 3, begun: 8, cutOff: 1 },
  events: { readers: 2, published: 40, cutOff: 1 },
  uplinks: [
    { name: "lab0", segment: "lan0", up: true },
    { name: "lab1", segment: "lan0", up: false },
  ],
  seconds: 7,
  segments: [
    {
      name: "lan0",
      addresses: 4,
      learned: 2,
      macMoves: 3,
      services: { answers: { dns: 5 }, unanswered: { rate: 2 }, dhcp: { pool: 9, leases: 4 } },
      ports: [
        {
          name: "ena0",
          in: { frames: 10, bytes: 600, dropped: { runt: 1 } },
          out: { frames: 20, bytes: 1200, dropped: { rx_overrun: 2 } },
          lost: { in: {}, out: { rx_overrun: 5, link_backlog: 4 } },
        },
      ],
    },
  ],
  nics: [
    {
      name: "ena0",
      personality: "ena",
      mac: "02:00:00:00:00:01",
      peer: "[2001:db8::1]:4711",
      agent: "ringwire/1.2.2",
      link: {
        roundTripMs: 250,
        unsentBytes: 9,
        inFlightBytes: 8,
        sentBatches: 100,
        receivedBatches: 101,
        lateBatches: 102,
      },
      memory: { pushMisses: 6 },
      faults: { TX_PHASE: 2 },
      reports: { DMA_UNMAPPED: 1 },
      nic: {
        status: "ready",
        tx: [{ state: "running" }],
        driver: 'Linux "6.1"\n 2.13.0',
        counters: { adminCommands: 48, txPackets: 10, rxPackets: 20, rxOverruns: 5 },
        resets: { NORMAL: 1 },
        interrupts: [{ vector: 0, raised: 11 }],
      },
    },
    {
      name: "xn0",
      personality: "xen",
      mac: "02:00:00:00:00:02",
      nic: {
        connected: true,
        grants: { granted: 516, inUse: 4, refused: { general_error: 3 } },
        store: { nodes: 26, memoryBytes: 2472 },
        queues: [
          {
            tx: { packets: 31, drops: 1, reads: 2, creditWaits: 5 },
            rx: {
              packets: 32,
              drops: 6,
              expired: 4,
              copyErrors: 7,
              stalls: 1,
              queuedBytes: 1514,
            },
            spuriousEvents: 9,
          },
        ],
      },
    },
  ],
  xen: { domains: 1, storeNodes: 57, backendPorts: 2, events: { sent: 40, delayed: 3 } },
});

describe("metricsText", () => {
  it("tells everything of the snapshot", async () => {
    const { type, text } = await metricsText(snapshot);
    expect(type).toMatch(/^text\/plain; version=0\.0\.4/);
    const lines = new Set(text.split("\n"));
    for (const line of [
      'ringwire_port_frames_total{segment="lan0",port="ena0",direction="in"} 10',
      'ringwire_port_bytes_total{segment="lan0",port="ena0",direction="out"} 1200',
      'ringwire_port_drops_total{segment="lan0",port="ena0",direction="in",reason="runt"} 1',
      // The same reason for a drop of the switch and for a loss in the port.
      'ringwire_port_drops_total{segment="lan0",port="ena0",direction="out",reason="rx_overrun"} 7',
      'ringwire_port_drops_total{segment="lan0",port="ena0",direction="out",reason="link_backlog"} 4',
      'ringwire_nic_link_round_trip_seconds{segment="lan0",nic="ena0"} 0.25',
      'ringwire_nic_unsent_bytes{segment="lan0",nic="ena0"} 9',
      'ringwire_nic_batches_total{segment="lan0",nic="ena0",direction="out"} 100',
      'ringwire_nic_batches_total{segment="lan0",nic="ena0",direction="in"} 101',
      'ringwire_nic_late_batches_total{segment="lan0",nic="ena0"} 102',
      'ringwire_nic_push_misses_total{segment="lan0",nic="ena0"} 6',
      'ringwire_faults_total{segment="lan0",nic="ena0",side="device",code="TX_PHASE"} 2',
      'ringwire_faults_total{segment="lan0",nic="ena0",side="frontend",code="DMA_UNMAPPED"} 1',
      'ringwire_ena_admin_commands_total{segment="lan0",nic="ena0"} 48',
      'ringwire_ena_resets_total{segment="lan0",nic="ena0",reason="NORMAL"} 1',
      'ringwire_ena_interrupts_total{segment="lan0",nic="ena0",vector="0"} 11',
      'ringwire_xen_connected{segment="lan0",nic="xn0"} 1',
      'ringwire_xen_grants{segment="lan0",nic="xn0"} 516',
      'ringwire_xen_grants_in_use{segment="lan0",nic="xn0"} 4',
      'ringwire_xen_grant_refusals_total{segment="lan0",nic="xn0",status="general_error"} 3',
      'ringwire_xen_store_nodes{segment="lan0",nic="xn0"} 26',
      'ringwire_xen_store_bytes{segment="lan0",nic="xn0"} 2472',
      'ringwire_xen_tx_packets_total{segment="lan0",nic="xn0",queue="0"} 31',
      'ringwire_xen_tx_lost_total{segment="lan0",nic="xn0",queue="0"} 1',
      'ringwire_xen_tx_reads_total{segment="lan0",nic="xn0",queue="0"} 2',
      'ringwire_xen_tx_credit_waits_total{segment="lan0",nic="xn0",queue="0"} 5',
      'ringwire_xen_rx_packets_total{segment="lan0",nic="xn0",queue="0"} 32',
      'ringwire_xen_rx_lost_total{segment="lan0",nic="xn0",queue="0"} 6',
      'ringwire_xen_rx_expired_total{segment="lan0",nic="xn0",queue="0"} 4',
      'ringwire_xen_rx_copy_errors_total{segment="lan0",nic="xn0",queue="0"} 7',
      'ringwire_xen_rx_stalls_total{segment="lan0",nic="xn0",queue="0"} 1',
      'ringwire_xen_rx_queued_bytes{segment="lan0",nic="xn0",queue="0"} 1514',
      'ringwire_xen_spurious_events_total{segment="lan0",nic="xn0",queue="0"} 9',
      "ringwire_xen_domains 1",
      "ringwire_xen_machine_store_nodes 57",
      "ringwire_xen_backend_ports 2",
      "ringwire_xen_events_sent_total 40",
      "ringwire_xen_events_delayed_total 3",
      'ringwire_fdb_entries{segment="lan0"} 2',
      'ringwire_fdb_moves_total{segment="lan0"} 3',
      'ringwire_dhcp_pool{segment="lan0"} 9',
      'ringwire_dhcp_leases{segment="lan0"} 4',
      'ringwire_service_answers_total{segment="lan0",service="dns"} 5',
      'ringwire_service_drops_total{segment="lan0",reason="rate"} 2',
      "ringwire_captures_running 3",
      'ringwire_build_info{version="1.2.3",wire="1",node="v24.0.0"} 1',
      'ringwire_nic_info{segment="lan0",nic="ena0",personality="ena",driver="Linux \\"6.1\\"? 2.13.0",agent="ringwire/1.2.2",peer="[2001:db8::1]",mac="02:00:00:00:00:01"} 1',
      'ringwire_port_up{segment="lan0",port="ena0"} 1',
      'ringwire_uplink_up{segment="lan0",uplink="lab0"} 1',
      'ringwire_uplink_up{segment="lan0",uplink="lab1"} 0',
      "ringwire_event_readers 2",
      "ringwire_events_total 40",
      "ringwire_event_readers_cut_off_total 1",
      'ringwire_nic_up{segment="lan0",nic="ena0"} 1',
      'ringwire_nic_ready{segment="lan0",nic="ena0"} 1',
      'ringwire_nic_ready{segment="lan0",nic="xn0"} 1',
      "ringwire_http_accepted_total 90",
      'ringwire_http_connections{state="requests"} 4',
      'ringwire_http_connections{state="pages"} 1',
      'ringwire_http_connections{state="hellos"} 2',
      'ringwire_http_refused_total{reason="host"} 3',
      'ringwire_http_refused_total{reason="evicted"} 5',
      "ringwire_captures_total 8",
      "ringwire_captures_cut_off_total 1",
      "ringwire_connections 2",
      "ringwire_uptime_seconds 7",
    ]) {
      expect(lines, line).toContain(line);
    }
  });

  it("attack-S9 a port and a NIC that come back go on where they left", async () => {
    const port = (frames: number) => ({
      name: "ena0",
      kind: "ena",
      in: { frames, bytes: 60 * frames, dropped: { runt: 1 } },
      out: { frames: 0, bytes: 0, dropped: {} },
      lost: { in: {}, out: { link_lost: 3 } },
    });
    const status = statusWith({
      segments: [
        { name: "lan0", ports: [port(10)], left: [port(100), { ...port(1), name: "gone" }] },
      ],
      nics: [
        {
          name: "ena0",
          personality: "ena",
          faults: { MAC_SPOOF: 1 },
          nic: { resets: { KEEP_ALIVE_TO: 1 } },
        },
      ],
      left: {
        nics: [
          { name: "ena0", faults: { MAC_SPOOF: 4 }, resets: { NORMAL: 1, KEEP_ALIVE_TO: 2 } },
          { name: "gone" },
        ],
      },
    });
    const { text } = await metricsText(status);
    const lines = new Set(text.split("\n"));
    for (const line of [
      'ringwire_nic_up{segment="lan0",nic="ena0"} 1',
      'ringwire_nic_up{segment="lan0",nic="gone"} 0',
      'ringwire_port_up{segment="lan0",port="ena0"} 1',
      'ringwire_port_up{segment="lan0",port="gone"} 0',
      'ringwire_port_frames_total{segment="lan0",port="ena0",direction="in"} 110',
      'ringwire_port_drops_total{segment="lan0",port="ena0",direction="in",reason="runt"} 2',
      'ringwire_port_drops_total{segment="lan0",port="ena0",direction="out",reason="link_lost"} 6',
      'ringwire_faults_total{segment="lan0",nic="ena0",side="device",code="MAC_SPOOF"} 5',
      'ringwire_ena_resets_total{segment="lan0",nic="ena0",reason="NORMAL"} 1',
      'ringwire_ena_resets_total{segment="lan0",nic="ena0",reason="KEEP_ALIVE_TO"} 3',
    ]) {
      if (!lines.has(line)) throw new Error(`${line} is missing`);
    }
  });

  it("names no MAC address but the NIC's own, once", async () => {
    const lines = (await metricsText(snapshot)).text.split("\n");
    const naming = lines.filter((line) => line.includes("02:00:00"));
    expect(naming.map((line) => line.split("{")[0])).toEqual([
      "ringwire_nic_info",
      "ringwire_nic_info",
    ]);
  });

  it("names of families differ after OpenMetrics has cut _total", async () => {
    const { text } = await metricsText(snapshot, new RoundTrips());
    const names = [...text.matchAll(/^# TYPE (ringwire_\S+) /gm)].map(([, name]) =>
      name!.replace(/_total$/, ""),
    );
    expect(names.length).toBeGreaterThan(50);
    expect(new Set(names).size).toBe(names.length);
  });

  it("round trips are a histogram of all links", async () => {
    const trips = new RoundTrips();
    for (const ms of [0.2, 3, 3, 40, 9000]) trips.observe(ms);
    const lines = new Set((await metricsText(snapshot, trips)).text.split("\n"));
    for (const line of [
      'ringwire_link_round_trip_seconds_bucket{le="0.0005"} 1',
      'ringwire_link_round_trip_seconds_bucket{le="0.005"} 3',
      'ringwire_link_round_trip_seconds_bucket{le="2.5"} 4',
      'ringwire_link_round_trip_seconds_bucket{le="+Inf"} 5',
      "ringwire_link_round_trip_seconds_count 5",
    ]) {
      expect(lines, line).toContain(line);
    }
  });

  it("attack-S1: other events have their turn while a long text is made", async () => {
    const nics = Array.from({ length: 400 }, (_, i) => ({ ...snapshot.nics[0]!, name: `n${i}` }));
    let turns = 0;
    let ended = false;
    const count = (): void => {
      turns++;
      if (!ended) setImmediate(count);
    };
    setImmediate(count);
    const { text } = await metricsText({ ...snapshot, nics });
    ended = true;
    expect(text).toContain('ringwire_nic_up{segment="lan0",nic="n399"} 1');
    expect(turns).toBeGreaterThan(2);
  });

  it("a second scrape does not add to the first", async () => {
    const first = await metricsText(snapshot);
    const second = await metricsText(snapshot);
    const own = (text: string) => text.split("\n").filter((line) => line.startsWith("ringwire_"));
    expect(own(second.text)).toEqual(own(first.text));
  });

  it("is a page also before anybody came", async () => {
    const segment = { name: "lan0", ports: [], left: [], addresses: 0, learned: 0 };
    const { text } = await metricsText(
      statusWith({ segments: [segment], nics: [], left: { nics: [] } }),
    );
    expect(text).toContain('ringwire_fdb_entries{segment="lan0"} 0');
    expect(text).toContain("process_cpu_seconds_total");
  });
});
