/** The device: its segments with their NICs, its captures, and the port that serves them. */
import type { IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { totalmem } from "node:os";
import { type Clock, systemClock, type Timer } from "../shared/clock.ts";
import type { Target } from "../shared/http/target.ts";
import { type Logger, silentLogger } from "../shared/log.ts";
import { LogLimit } from "../shared/log-limit.ts";
import { MemoryAccount, MemoryBudget } from "../shared/memory-budget.ts";
import { dataPathStatus } from "../shared/reactor/index.ts";
import { slice } from "../shared/slices.ts";
import type { DeviceStatus, NicStatus } from "../shared/status/device-status.ts";
import { DEVICE_PORT } from "../shared/transport/address.ts";
import type { Transport } from "../shared/transport/transport.ts";
import { acceptUpgrade, prepareTransport } from "../shared/transport/websocket.ts";
import { checkedDeadAfter, type DeadAfter } from "../shared/wire/dead-after.ts";
import type { Hello } from "../shared/wire/hello.ts";
import { CloseCode, Limits, NIC_PATH, SUBPROTOCOL } from "../shared/wire/protocol.ts";
import { type Denial, Gate, type Identity } from "./access/gate.ts";
import { ETHERNET_PATH } from "./access/roles.ts";
import { Refusal } from "./admission.ts";
import { CaptureHub } from "./capture/hub.ts";
import { type Admitted, Connection, type ConnectionOwner, MOVE_MS } from "./connection.ts";
import { createEnaNic } from "./ena/index.ts";
import { DropWatch } from "./events/drop-watch.ts";
import { EventFeed } from "./events/feed.ts";
import { Front, NO_PLACE, type Peer, Refused } from "./http/front.ts";
import { Pages } from "./http/pages.ts";
import type { Occupant } from "./http/places.ts";
import type { DeviceOptions, Renewal } from "./index.ts";
import { LeftNics } from "./left-nics.ts";
import { RoundTrips } from "./metrics.ts";
import type { MoveRefusal } from "./migrate-page.ts";
import type { GuestHost, Nic, NicLevers } from "./nic.ts";
import { isOwnAddress } from "./own-address.ts";
import { EthernetClient } from "./ports/ws-ethernet.ts";
import { EVERYTHING, type Segment, Segments, type Sight } from "./segments/segments.ts";
import type { PortNotice, Switch } from "./switch/switch.ts";
import { createXenPersonality } from "./xen/index.ts";
import { XenMachine } from "./xen/machine.ts";

/** Most NICs at once. Connections without a NIC have places of their own. */
const MAX_NICS = 1024;
/** Most clients that carry bare frames. */
const MAX_ETHERNET = 256;
const KEEP_ALIVE_MS = 30_000;
/** Lines of a kind (joined, left, refused ...) in a second before the rest is summed up. */
const LINES_A_SECOND = 10;
/** Least default of the memory for all NICs together: all windows that one NIC may have. */
const MIN_MEMORY_BYTES = Limits.WINDOWS_BYTES;
/** Time (ms) for peers to read their answers when the device stops. */
const CLOSE_MS = 500;

/**
 * A quarter of the memory of the machine, or of this process's control group. Windows and pushes lie
 * outside V8's heap, so its limit says nothing about them. The other three quarters are for the
 * models themselves (half a megabyte for a NIC), data on its way to slow NICs, captures, and other
 * programs.
 */
function defaultMemoryBytes(): number {
  const bytes = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  return Math.max(Math.floor(bytes / 4), MIN_MEMORY_BYTES);
}

export class DeviceServer implements ConnectionOwner {
  readonly host: string;
  readonly log: Logger;
  readonly lines: LogLimit;
  readonly clock: Clock = systemClock;
  readonly agent: string;
  readonly segments: Segments<Connection>;
  readonly pushBytes = Limits.PUSH_BYTES;
  readonly checkWindows: boolean;
  readonly deadAfter: DeadAfter;
  readonly events: ConnectionOwner["events"];
  readonly captures: CaptureHub;
  readonly roundTrips = new RoundTrips();
  /** The events for readers over HTTP. */
  readonly feed: EventFeed;
  readonly #drops: readonly DropWatch[];
  readonly #memory: MemoryBudget;
  /** Undefined before `listen`. */
  address: AddressInfo | undefined;
  /** True when the device stops. */
  draining = false;
  /** The uplinks of all segments. `up`: the far end is there. */
  readonly uplinks: { readonly name: string; readonly segment: string; up: boolean }[] = [];
  readonly #options: DeviceOptions;
  readonly #machine: XenMachine;
  /** Makers of NIC models, by the name of the personality. */
  readonly #personalities: Readonly<Record<string, (host: GuestHost) => Nic>>;
  readonly #gate: Gate;
  readonly #front: Front;
  readonly #connections = new Set<Connection>();
  readonly #left = new LeftNics();
  readonly #ethernet = new Set<EthernetClient>();
  /** Connections that have not sent hello yet, and the places that they hold. */
  readonly #hellos = new Map<Connection, Occupant>();
  readonly #started = this.clock.now();
  #ticker: Timer | undefined;
  #epoch = 0;

  constructor(
    options: DeviceOptions,
    switches: readonly Switch[],
    events: ConnectionOwner["events"],
  ) {
    const { listen, log = silentLogger, agent = "ringwire" } = options;
    this.#options = options;
    this.#memory = new MemoryBudget(options.memoryBytes ?? defaultMemoryBytes());
    this.host = listen?.host ?? "127.0.0.1";
    this.log = log;
    this.lines = new LogLimit(log, this.clock.now, LINES_A_SECOND);
    this.agent = agent;
    this.segments = new Segments(switches, MAX_NICS);
    this.checkWindows = options.checkWindows ?? false;
    this.deadAfter = checkedDeadAfter(options.deadAfter);
    this.events = events;
    this.#machine = new XenMachine(log);
    this.#personalities = {
      ena: (host) => createEnaNic(host, options.ena),
      xen: createXenPersonality(this.#machine, options.xen ?? {}),
    };
    for (const segment of this.segments.all) {
      segment.switch.onNotice = (notice) => this.#notice(segment, notice);
    }
    this.feed = new EventFeed(this.segments.all.map(({ name }) => name));
    this.#drops = switches.map((one) => new DropWatch(one, this.feed));
    this.captures = new CaptureHub({ segments: switches, agent, log: this.lines.of("capture") });
    this.#gate = new Gate({
      clients: options.clients,
      segments: switches.map(({ name }) => name),
      certificates: options.tls?.ca !== undefined,
    });
    const pages = new Pages(this);
    this.#front = new Front({
      host: this.host,
      port: listen?.port ?? DEVICE_PORT,
      allowHosts: options.allowHosts ?? [],
      log,
      tls: options.tls,
      admit: (path, caller) => this.#gate.admit(path, caller),
      misses: (target, request, response) => pages.misses(target, request, response),
      page: (asked, request, response) => pages.answer(asked, request, response),
      upgradeRefusal: (...asked) => this.#upgradeRefusal(...asked),
      upgrade: (request, socket, head, peer) => this.#upgrade(request, socket, head, peer),
    });
  }

  get isTls(): boolean {
    return this.#options.tls !== undefined;
  }

  /** Binds the port. Rejects with the system's error. */
  async listen(): Promise<void> {
    await prepareTransport();
    this.address = await this.#front.listen();
    this.#ticker = this.clock.setInterval(() => this.#tick(), 1000);
  }

  /** Uses other clients and certificates from now on; see Device.renew. */
  renew({ clients, tls }: Renewal): void {
    if (tls !== undefined) this.#front.renewTls(tls);
    if (clients !== undefined) this.#gate.renew(clients);
  }

  /** Informs every frontend, then closes the port. */
  async close(): Promise<void> {
    this.draining = true;
    this.clock.clear(this.#ticker);
    for (const connection of [...this.#connections]) {
      connection.close(CloseCode.GOING_AWAY, "the device stops");
    }
    for (const client of [...this.#ethernet]) {
      client.close(CloseCode.GOING_AWAY, "the device stops");
    }
    this.lines.flush();
    this.feed.close("the device stops");
    // A capture whose reader does not read ends when its socket is cut, below.
    const captured = this.captures.close("the device stops");
    await this.#front.close(CLOSE_MS);
    await captured;
  }

  snapshot(): DeviceStatus {
    return this.#statusWith(this.segments.nics.flatMap((one) => one.snapshot() ?? []));
  }

  /**
   * As `snapshot` for the segments that `client` sees, and the frames of all NICs have their turn in
   * between. The switches are as they were at the call, each NIC as it is at its slice. A NIC that
   * leaves meanwhile is missing.
   */
  async snapshotInSlices(client: Sight = EVERYTHING): Promise<DeviceStatus> {
    const nics: NicStatus[] = [];
    const status = this.#statusWith(nics, client);
    for (const connection of this.segments.seenBy(client).flatMap((segment) => segment.nics.all)) {
      await slice();
      const nic = connection.snapshot();
      if (nic !== undefined) nics.push(nic);
    }
    return status;
  }

  #statusWith(nics: NicStatus[], client: Sight = EVERYTHING): DeviceStatus {
    const left = this.#left.snapshot();
    return {
      agent: this.agent,
      pid: process.pid,
      node: process.version,
      seconds: Math.round((this.clock.now() - this.#started) / 1000),
      memoryBytes: process.memoryUsage.rss(),
      dataPath: dataPathStatus(),
      nicMemory: this.#memory.snapshot(),
      connections: this.#connections.size,
      segments: this.segments.seenBy(client).map((segment) => ({
        ...segment.switch.snapshot(),
        ...(segment.services === undefined ? {} : { services: segment.services.snapshot() }),
      })),
      nics,
      left: { ...left, nics: left.nics.filter(({ segment }) => client.sees(segment)) },
      captures: this.captures.snapshot(),
      uplinks: this.uplinks.filter(({ segment }) => client.sees(segment)),
      events: this.feed.snapshot(),
      http: this.#front.snapshot(),
      xen: this.#machine.snapshot(),
    };
  }

  get nicCount(): number {
    return this.segments.nicCount;
  }

  /** Returns the reasons why a load balancer or a person should not count on this device now. */
  unready(): string[] {
    return [
      ...(this.draining ? ["stopping"] : []),
      ...(this.address === undefined ? ["not_listening"] : []),
      ...(this.uplinks.some(({ up }) => !up) ? ["uplink_lost"] : []),
    ];
  }

  levers(name: string): NicLevers | undefined {
    const found = this.segments.find(name, EVERYTHING);
    return typeof found === "string" ? undefined : found.levers;
  }

  /**
   * Moves a NIC that `client` sees to the device at `url`. Resolves to undefined, or to the reason
   * why it stays.
   */
  async migrate(
    name: string,
    url: string,
    client: Sight = EVERYTHING,
  ): Promise<MoveRefusal | undefined> {
    const connection = this.segments.find(name, client);
    if (typeof connection === "string") return { status: 404, error: connection };
    const here = { listening: this.address!.address, port: this.address!.port };
    if (isOwnAddress(url, { ...here, reachedAt: connection.reachedAt })) {
      return {
        status: 409,
        error: `${name} is at ${new URL(url).host} already: that is this device`,
      };
    }
    const moved = await connection.migrate(url);
    if (moved === true) return undefined;
    return {
      status: 409,
      error:
        moved === undefined
          ? `${name} did not leave within ${MOVE_MS / 1000} s: its frontend may be busy with a reset; try again`
          : `${name} did not move: it is moving already, or its connection ended`,
    };
  }

  /** Makes a ticket; see Gate.ticket. */
  ticket(identity: Identity, path: string, origin: string | undefined): string | Denial {
    return this.#gate.ticket(identity, path, origin);
  }

  // Services for a connection.

  admit(connection: Connection, hello: Hello): Admitted {
    const { maxMtu = 9216, maxQueues = 8, admission } = this.#options;
    if (this.draining) throw new Refusal("STOPPING", "the device is stopping");
    if (!Object.hasOwn(this.#personalities, hello.personality)) {
      throw new Refusal(
        "PERSONALITY",
        `this device has no "${hello.personality}" NIC; it has ${Object.keys(this.#personalities).join(", ")}`,
      );
    }
    const { peer, identity } = connection;
    const { name: wanted, mac: wantedMac, personality, agent = "" } = hello;
    if (!identity.mayHave(wanted)) {
      throw new Refusal("NAME_DENIED", `${identity.id} may have no NIC with the name "${wanted}"`);
    }
    const segment = this.segments.choose(hello, identity);
    const admitted = admission?.({
      ...{ name: wanted, segment: segment.name, mac: wantedMac, personality, agent, peer },
    });
    const queues = Math.min(admitted?.queues ?? maxQueues, maxQueues);
    const { name, mac } = segment.nics.admit(connection, hello, (other) => identity.mayHave(other));
    this.#said(connection);
    const portMtu = segment.switch.optionsOf(name).mtu ?? maxMtu;
    return {
      segment: segment.switch,
      config: {
        name,
        segment: segment.name,
        mac,
        queues: Math.min(hello.queues ?? queues, queues),
        maxMtu: Math.min(admitted?.maxMtu ?? maxMtu, maxMtu, portMtu),
      },
      epoch: ++this.#epoch,
    };
  }

  create(connection: Connection, host: GuestHost): Nic {
    const tap = this.#options.tap?.(connection.name);
    if (tap !== undefined) connection.addTap(tap);
    this.captures.linkJoined(connection);
    return this.#personalities[connection.personality]!(host);
  }

  gone(connection: Connection, last: NicStatus | undefined): void {
    this.captures.linkLeft(connection);
    if (last !== undefined) this.#left.add(last);
    this.#said(connection);
    this.#connections.delete(connection);
    this.segments.get(connection.segment)?.nics.remove(connection);
  }

  #notice({ name, nics }: Segment<Connection>, { port, code, text }: PortNotice): void {
    const connection = nics.get(port);
    if (connection !== undefined) connection.notice(code, text);
    else this.lines.of(code).warn({ port, segment: name, code }, text);
  }

  #tick(): void {
    this.lines.tick();
    for (const segment of this.segments.all) segment.switch.tick();
    for (const drops of this.#drops) drops.tick();
    this.feed.tick();
    this.captures.tick();
    this.#front.tick();
    this.#gate.tick();
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer, peer: Peer): void {
    const reachedAt = socket.localAddress ?? "";
    const account = new MemoryAccount(this.#memory);
    const { identity } = peer;
    // The answer is on its way for a turn with TLS. The rights of the client may end meanwhile.
    const forget = identity.use(() => socket.destroy());
    socket.once("close", forget);
    if (peer.target.path === ETHERNET_PATH) {
      // Nothing else finds a client whose host has vanished.
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      acceptUpgrade(request, socket, head, account, (transport) => {
        this.#joinEthernet(transport, peer, account);
        forget();
      });
      return;
    }
    acceptUpgrade(request, socket, head, account, (transport) => {
      const from = { name: peer.name, identity, reachedAt };
      const connection = new Connection(transport, from, this, account);
      forget();
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

  /** Attaches a client that carries bare frames. */
  #joinEthernet(transport: Transport, peer: Peer, account: MemoryAccount): void {
    const segment = this.#segmentOf(peer)!;
    this.#ethernet.add(
      new EthernetClient(transport, {
        ...{ segment: segment.switch, identity: peer.identity, peer: peer.name, account },
        log: this.lines.of("ethernet"),
        isTaken: (name) => segment.nics.get(name) !== undefined,
        onGone: (client) => void this.#ethernet.delete(client),
      }),
    );
  }

  /** Returns the segment that an upgrade names in its query, or the first that the client may see. */
  #segmentOf({ target, identity }: Pick<Peer, "target" | "identity">) {
    const wanted = new URLSearchParams(target.query).get("segment");
    const seen = this.segments.seenBy(identity);
    return wanted === null ? seen[0] : seen.find(({ name }) => name === wanted);
  }

  /** Frees the place of a connection that waited for hello: it sent hello, or it ended. */
  #said(connection: Connection): void {
    const occupant = this.#hellos.get(connection);
    if (occupant === undefined) return;
    this.#hellos.delete(connection);
    this.#front.hellos.delete(occupant);
  }

  #upgradeRefusal(
    target: Target,
    { httpVersion, headers }: IncomingMessage,
    identity: Identity,
  ): readonly [string, string] | undefined {
    const { path } = target;
    // A request line without a version means HTTP 0.9. Headers and upgrades do not exist there.
    if (httpVersion !== "1.1") return ["400 Bad Request", "HTTP/1.1 is needed here"];
    if (path === ETHERNET_PATH) return this.#ethernetRefusal(target, identity);
    if (path !== NIC_PATH) return ["404 Not Found", `frontends connect to ${NIC_PATH}`];
    const offered = String(headers["sec-websocket-protocol"] ?? "").split(/\s*,\s*/, 16);
    if (!offered.includes(SUBPROTOCOL)) {
      return ["400 Bad Request", `this port speaks the WebSocket subprotocol ${SUBPROTOCOL}`];
    }
    return this.draining ? STOPPING : undefined;
  }

  #ethernetRefusal(target: Target, identity: Identity): readonly [string, string] | undefined {
    if (this.#segmentOf({ target, identity }) === undefined) {
      const names = this.segments.seenBy(identity).map(({ name }) => name);
      return ["404 Not Found", `there is no such segment; there is ${names.join(", ")}`];
    }
    if (this.#ethernet.size >= MAX_ETHERNET) {
      return ["503 Service Unavailable", `${MAX_ETHERNET} clients of this kind are here already`];
    }
    return this.draining ? STOPPING : undefined;
  }
}

const STOPPING = ["503 Service Unavailable", "the device is stopping"] as const;
