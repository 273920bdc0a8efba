/** The device: its NICs by name, its segment, its captures, and the port that serves them. */
import type { IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type Clock, systemClock, type Timer } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import { LogLimit } from "../shared/log-limit.ts";
import type { DeviceStatus, NicStatus, XenMachineStatus } from "../shared/status/device-status.ts";
import { WebSocketAcceptor } from "../shared/transport/websocket.ts";
import type { Hello } from "../shared/wire/hello.ts";
import type { LinkTap } from "../shared/wire/link.ts";
import { CloseCode, NIC_PATH, SUBPROTOCOL } from "../shared/wire/transactions.ts";
import { type AdmissionPolicy, Refusal } from "./admission.ts";
import { CaptureHub } from "./capture/hub.ts";
import { Connection, type ConnectionOwner } from "./connection.ts";
import { Front, NO_PLACE, type Peer, Refused } from "./http/front.ts";
import { type PageSource, Pages } from "./http/pages.ts";
import type { Occupant } from "./http/places.ts";
import type { Target } from "./http/target.ts";
import { LeftNics } from "./left-nics.ts";
import { RoundTrips } from "./metrics.ts";
import type { MoveRefusal } from "./migrate-page.ts";
import type { GuestHost, Nic, NicConfig, NicEvent, NicFault, NicLevers } from "./nic.ts";
import { isOwnAddress } from "./own-address.ts";
import { Roster } from "./roster.ts";
import type { Port, SwitchPort } from "./switch/port.ts";
import type { AddressTable, SpoofNotice, Switch } from "./switch/switch.ts";

/** A kind of NIC that a device offers. */
export interface Personality {
  create(host: GuestHost): Nic;
}

export interface ServerOptions {
  readonly host: string;
  /** TCP port. With 0 the system chooses one. */
  readonly port: number;
  readonly agent: string;
  readonly segment: Switch;
  readonly segmentName: string;
  /** Makers of NIC models, one for each personality of this device. */
  readonly personalities: Readonly<Record<string, Personality>>;
  /** Returns the part of the status that all Xen guests share. */
  readonly xenStatus: () => XenMachineStatus;
  /** Most bytes of pushes held for a NIC. */
  readonly pushBytes: number;
  readonly maxMtu: number;
  readonly maxQueues: number;
  /** True: compare both copies of coherent memory once a second. A link ends if they differ. */
  readonly checkWindows: boolean;
  readonly log: Logger;
  /** Clock of the NICs, their links and the moves. Default: the system's clock. */
  readonly clock?: Clock;
  /** Host names under which pages are served, in addition to the machine's own names. */
  readonly allowHosts: readonly string[];
  readonly admission: AdmissionPolicy | undefined;
  /** Returns a tap that sees the batches of a NIC. */
  readonly tap: ((name: string) => LinkTap) | undefined;
  onJoined(nic: NicEvent): void;
  onLeft(nic: NicEvent): void;
  onFault(fault: NicFault): void;
}

/** Most NICs at once. Connections without a NIC have places of their own. */
const MAX_NICS = 1024;
/** Lines of a kind (joined, left, refused ...) in a second before the rest is summed up. */
const LINES_A_SECOND = 10;
/** Time (ms) for a NIC to suspend and leave. */
const MOVE_MS = 15_000;
/** Time (ms) for peers to read their answers when the device stops. */
const CLOSE_MS = 500;

export class DeviceServer implements ConnectionOwner, PageSource {
  readonly log: Logger;
  readonly lines: LogLimit;
  readonly clock: Clock;
  readonly agent: string;
  readonly segment: string;
  readonly pushBytes: number;
  readonly checkWindows: boolean;
  readonly captures: CaptureHub;
  readonly roundTrips = new RoundTrips();
  readonly #options: ServerOptions;
  readonly #front: Front;
  readonly #acceptor = new WebSocketAcceptor();
  readonly #connections = new Set<Connection>();
  readonly #nics: Roster<Connection>;
  readonly #left = new LeftNics();
  /** Connections that have not sent hello yet, and the places that they hold. */
  readonly #hellos = new Map<Connection, Occupant>();
  readonly #started: number;
  #listening: AddressInfo | undefined;
  #ticker: Timer | undefined;
  #epoch = 0;
  #draining = false;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.log = options.log;
    this.clock = options.clock ?? systemClock;
    this.#started = this.clock.now();
    this.lines = new LogLimit(options.log, this.clock.now, LINES_A_SECOND);
    this.agent = options.agent;
    this.segment = options.segmentName;
    this.pushBytes = options.pushBytes;
    this.checkWindows = options.checkWindows;
    const { segment, segmentName, agent, log } = options;
    segment.onSpoof = (notice) => this.#spoofed(notice);
    this.#nics = new Roster({
      segment: segmentName,
      most: MAX_NICS,
      hasPort: (name) => segment.hasPort(name),
    });
    const captureLog = this.lines.of("capture");
    this.captures = new CaptureHub({ segment, segmentName, agent, log: captureLog });
    const pages = new Pages(this);
    this.#front = new Front({
      host: options.host,
      port: options.port,
      allowHosts: options.allowHosts,
      log,
      misses: (target, request, response) => pages.misses(target, request, response),
      page: (asked, request, response) => pages.answer(asked, request, response),
      upgradeRefusal: (target, request) => this.#upgradeRefusal(target, request),
      upgrade: (request, socket, head, peer) => this.#upgrade(request, socket, head, peer),
    });
  }

  /** Binds the port. Rejects with the system's error. */
  async listen(): Promise<AddressInfo> {
    const address = await this.#front.listen();
    this.#listening = address;
    this.#ticker = this.clock.setInterval(() => this.#tick(), 1000);
    return address;
  }

  /** Informs every frontend, then closes the port. */
  async close(): Promise<void> {
    this.#draining = true;
    this.clock.clear(this.#ticker);
    for (const connection of [...this.#connections]) {
      connection.close(CloseCode.GOING_AWAY, "the device stops");
    }
    this.lines.flush();
    // A capture whose reader does not read ends when its socket is cut, below.
    const captured = this.captures.close("the device stops");
    await this.#front.close(CLOSE_MS);
    await captured;
  }

  snapshot(): DeviceStatus {
    return {
      agent: this.agent,
      pid: process.pid,
      node: process.version,
      seconds: Math.round((this.clock.now() - this.#started) / 1000),
      memoryBytes: process.memoryUsage.rss(),
      connections: this.#connections.size,
      segment: this.#options.segment.snapshot(),
      nics: this.#nics.all.flatMap((connection) => connection.snapshot() ?? []),
      left: this.#left.snapshot(),
      captures: this.captures.snapshot(),
      http: this.#front.snapshot(),
      xen: this.#options.xenStatus(),
    };
  }

  get draining(): boolean {
    return this.#draining;
  }

  addresses(): AddressTable {
    return this.#options.segment.addresses();
  }

  levers(name: string): NicLevers | undefined {
    return this.#nics.get(name)?.levers;
  }

  /** Moves a NIC to the device at `url`. Resolves to undefined, or to the reason why it stays. */
  async migrate(name: string, url: string): Promise<MoveRefusal | undefined> {
    const connection = this.#nics.get(name);
    if (connection === undefined) {
      return { status: 404, error: `this device has no NIC "${name}"` };
    }
    if (this.#isHere(url, connection)) {
      return {
        status: 409,
        error: `${name} is at ${new URL(url).host} already: that is this device`,
      };
    }
    let timer: Timer | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = this.clock.setTimeout(() => resolve(undefined), MOVE_MS);
    });
    const moved = await Promise.race([connection.migrate(url), late]);
    this.clock.clear(timer);
    if (moved === true) return undefined;
    if (moved === undefined) connection.giveUpMove();
    return {
      status: 409,
      error:
        moved === undefined
          ? `${name} did not leave within ${MOVE_MS / 1000} s: its frontend may be busy with a reset; try again`
          : `${name} did not move: it is moving already, or its connection ended`,
    };
  }

  #isHere(url: string, { reachedAt }: Connection): boolean {
    if (this.#listening === undefined) return false;
    const { address: listening, port } = this.#listening;
    return isOwnAddress(url, { listening, port, reachedAt });
  }

  // Services for a connection.

  admit(connection: Connection, hello: Hello): { config: NicConfig; epoch: number } {
    const { personalities, maxMtu, maxQueues, admission } = this.#options;
    if (this.#draining) throw new Refusal("STOPPING", "the device is stopping");
    if (!Object.hasOwn(personalities, hello.personality)) {
      throw new Refusal(
        "PERSONALITY",
        `this device has no "${hello.personality}" NIC; it has ${Object.keys(personalities).join(", ")}`,
      );
    }
    const { peer } = connection;
    const { name: wanted, mac: wantedMac, personality, agent = "" } = hello;
    const admitted = admission?.({ name: wanted, mac: wantedMac, personality, agent, peer });
    const queues = Math.min(admitted?.queues ?? maxQueues, maxQueues);
    const { name, mac } = this.#nics.admit(connection, hello);
    this.#said(connection);
    return {
      config: {
        name,
        mac,
        queues: Math.min(hello.queues ?? queues, queues),
        maxMtu: Math.min(admitted?.maxMtu ?? maxMtu, maxMtu),
      },
      epoch: ++this.#epoch,
    };
  }

  create(personality: string, host: GuestHost): Nic {
    return this.#options.personalities[personality]!.create(host);
  }

  plug(port: Port, mac: Uint8Array): SwitchPort {
    return this.#options.segment.attach(port, mac);
  }

  named(connection: Connection): void {
    const tap = this.#options.tap?.(connection.name);
    if (tap !== undefined) connection.addTap(tap);
    this.captures.linkJoined(connection);
  }

  joined(nic: NicEvent): void {
    this.#options.onJoined(nic);
  }

  left(nic: NicEvent): void {
    this.#options.onLeft(nic);
  }

  faulted(fault: NicFault): void {
    this.#options.onFault(fault);
  }

  totals(last: NicStatus): void {
    this.#left.add(last);
  }

  roundTrip(ms: number): void {
    this.roundTrips.observe(ms);
  }

  gone(connection: Connection): void {
    this.captures.linkLeft(connection);
    this.#said(connection);
    this.#connections.delete(connection);
    this.#nics.remove(connection);
  }

  #spoofed(notice: SpoofNotice): void {
    const connection = this.#nics.get(notice.spoofer);
    if (connection !== undefined) connection.spoofed(notice);
    else {
      const { spoofer, mac, owner, frames } = notice;
      this.lines.warn(
        "spoof",
        { port: spoofer },
        `${frames} frames came from the uplink ${spoofer} with the source ${mac}, which is the address of ${owner}: dropped`,
      );
    }
  }

  #tick(): void {
    this.lines.tick();
    this.#options.segment.tick();
    for (const connection of this.#connections) connection.tick();
    this.captures.tick();
    this.#front.tick();
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer, peer: Peer): void {
    const reachedAt = socket.localAddress ?? "";
    this.#acceptor.accept(request, socket, head, (transport) => {
      const connection = new Connection(transport, peer.name, reachedAt, this);
      this.#connections.add(connection);
      const occupant: Occupant = {
        address: peer.address,
        evict: () => {
          this.#hellos.delete(connection);
          this.#front.count(Refused.EVICTED, peer.name, "it had not said hello");
          connection.cut(CloseCode.LIMIT, NO_PLACE);
        },
      };
      this.#hellos.set(connection, occupant);
      this.#front.hellos.add(occupant);
    });
  }

  /** Frees the place of a connection that waited for hello: it sent hello, or it ended. */
  #said(connection: Connection): void {
    const occupant = this.#hellos.get(connection);
    if (occupant === undefined) return;
    this.#hellos.delete(connection);
    this.#front.hellos.delete(occupant);
  }

  #upgradeRefusal(
    { path }: Target,
    { httpVersion, headers }: IncomingMessage,
  ): readonly [string, string] | undefined {
    // A request line without a version means HTTP 0.9. Headers and upgrades do not exist there.
    if (httpVersion !== "1.1") return ["400 Bad Request", "HTTP/1.1 is needed here"];
    if (path !== NIC_PATH) return ["404 Not Found", `frontends connect to ${NIC_PATH}`];
    const offered = String(headers["sec-websocket-protocol"] ?? "").split(/\s*,\s*/, 16);
    if (!offered.includes(SUBPROTOCOL)) {
      return ["400 Bad Request", `this port speaks the WebSocket subprotocol ${SUBPROTOCOL}`];
    }
    if (this.#draining) return ["503 Service Unavailable", "the device is stopping"];
    return undefined;
  }
}
