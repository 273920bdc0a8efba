/**
 * An ENA function: registers, admin and event queues, IO queues, and a port on the segment. See
 * README.md in this directory.
 */
import { AenqGroup } from "../../shared/ena/aenq.ts";
import type { EnaStatus } from "../../shared/status/device-status.ts";
import { EnaRingKind, type LinkState } from "../../shared/wire/link-state.ts";
import type { Nic, NicHost, NicLevers } from "../nic.ts";
import { EventQueue } from "./aenq.ts";
import { DOORBELLS, EnaContext, NUMAS, UNMASKS } from "./context.ts";
import { AdminQueue } from "./control.ts";
import { Datapath } from "./datapath.ts";
import { Features } from "./features.ts";
import { hintsFor, slackMs, worthTelling } from "./hints.ts";
import { Lifecycle } from "./lifecycle.ts";
import { Vectors } from "./notify.ts";
import type { EnaOptions } from "./options.ts";
import { LLQ_BYTES, Queues } from "./queues.ts";
import { Registers } from "./registers.ts";
import { Rss } from "./rss.ts";
import type { SubmissionQueue } from "./submission-queue.ts";

export type { EnaOptions } from "./options.ts";

export function createEnaNic(host: NicHost, options: EnaOptions = {}): EnaNic {
  return new EnaNic(host, options);
}

export class EnaNic implements Nic {
  readonly pci: Registers;
  /** Sends any event. Returns false if the driver did not enable the group, or its ring is full. */
  readonly events: EventQueue;
  readonly #context: EnaContext;
  readonly #vectors: Vectors;
  readonly #rss: Rss;
  readonly #features: Features;
  readonly #datapath: Datapath;
  readonly #queues: Queues;
  readonly #lifecycle: Lifecycle;
  readonly #admin: AdminQueue;
  #destroyed = false;

  constructor(host: NicHost, options: EnaOptions) {
    const context = new EnaContext(host, options);
    this.#context = context;
    this.#vectors = new Vectors(host, host.config.queues + 1);
    this.events = new EventQueue(context, this.#vectors);
    this.#rss = new Rss(context.rssKeyReversed);
    this.#datapath = new Datapath(context, this.#vectors, this.#rss);
    this.#features = new Features(context, this.#rss, this.events, this.#datapath);
    this.#queues = new Queues(context, this.#vectors, this.#datapath, this.#features);
    this.#lifecycle = new Lifecycle(context, () => this.#dropAll());
    this.#admin = new AdminQueue(
      context,
      this.#lifecycle,
      this.#features,
      this.#queues,
      this.#vectors,
    );
    this.pci = new Registers(context, {
      lifecycle: this.#lifecycle,
      admin: this.#admin,
      events: this.events,
      vectors: this.#vectors,
      queues: this.#queues,
      datapath: this.#datapath,
    });
  }

  // Methods of Nic.

  windowRemoved(address: number, length: number): void {
    this.#queues.windowRemoved(address, length);
  }

  batchEnd(): void {
    this.#lifecycle.batchEnd();
    this.#admin.batchEnd();
    this.#datapath.turn.run();
  }

  beforeFlush(): void {
    this.#datapath.publish();
  }

  writableAgain(): void {
    const { turn } = this.#datapath;
    turn.roomAgain();
    turn.run();
  }

  tick(): void {
    if (this.#destroyed) return;
    this.#context.lines.tick();
    this.events.keepAlive();
    const slack = slackMs(this.#context.host.roundTripMs);
    if (
      worthTelling(this.#features.toldSlackMs, slack) &&
      this.events.updateHints(hintsFor(slack))
    ) {
      this.#features.toldSlackMs = slack;
    }
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#context.generation++;
    this.#lifecycle.close();
    this.#admin.reset();
    this.events.reset();
    this.#datapath.close();
    this.#context.lines.flush();
  }

  /** Always 0: an accepted frame is in the driver's buffers at once. */
  readonly rxQueued = 0;

  snapshot(): EnaStatus {
    const { counters, faults, host } = this.#context;
    const { rings, waiting } = this.#admin;
    return {
      personality: "ena",
      status: this.#lifecycle.resetting ? "resetting" : this.#lifecycle.fatal ? "fatal" : "ready",
      lastReset: this.#lifecycle.lastReason,
      mtu: this.#context.mtu,
      features: this.#features.supported,
      llq: this.#features.llq !== undefined,
      driver: this.#driver(),
      counters: { ...counters },
      faults: Object.fromEntries(faults),
      resets: Object.fromEntries(this.#lifecycle.resets),
      admin: {
        running: rings !== undefined,
        waiting: waiting.size,
        head: rings?.commands.cursor.head ?? 0,
        tail: rings?.commands.tail ?? 0,
        events: this.events.ring?.cursor.head ?? 0,
        eventGroups: this.events.enabledGroups,
      },
      interrupts: Array.from(this.#vectors.raised, (raised, vector) => ({
        vector,
        raised,
        armed: this.#vectors.armed[vector] === 1,
        pending: this.#vectors.pending[vector] === 1,
        rxDelay: this.#vectors.rxDelay[vector]!,
        txDelay: this.#vectors.txDelay[vector]!,
      })),
      tx: this.#datapath.tx
        .filter((q) => q !== undefined)
        .map((q) => ({
          ...ringSnapshot(q),
          placement: q.llq === undefined ? "host" : "device",
          state: q.stopped || q.stage,
          packets: q.packets,
          bytes: q.bytes,
          drops: q.drops,
        })),
      rx: this.#datapath.rx
        .filter((q) => q !== undefined)
        .map((q) => ({
          ...ringSnapshot(q),
          state: q.stopped || "running",
          buffers: q.buffers,
          packets: q.packets,
          bytes: q.bytes,
          overruns: q.overruns,
        })),
      roundTripMs: host.roundTripMs,
    };
  }

  tellState(state: LinkState): void {
    const { rings, waiting } = this.#admin;
    // Without an admin queue there is no other queue either.
    if (rings === undefined || this.events.ring === undefined) return;
    state.enaRing({ ring: EnaRingKind.AQ, ...rings.commands.place });
    state.enaRing({ ring: EnaRingKind.ACQ, ...rings.completions.place });
    state.enaRing({ ring: EnaRingKind.AENQ, ...this.events.ring.place });
    for (const { buffer } of waiting.values()) state.adminCommand(new Uint8Array(buffer));
    const { llq } = this.#features;
    if (llq !== undefined) state.llq(llq.entryBytes, llq.descsBeforeHeader);
    const { cqs, tx, rx } = this.#datapath;
    for (const { index, vector, ring } of cqs.filter((cq) => cq !== undefined)) {
      const [register, numaRegister] = [UNMASKS + index * 4, NUMAS + index * 4];
      const facts = { index, vector, register, numaRegister };
      state.enaRing({ ring: EnaRingKind.CQ, ...facts, ...ring.place });
    }
    for (const queue of tx.filter((q) => q !== undefined)) {
      const { index, ring } = queue;
      const inDevice = ring.local !== undefined;
      const address = inDevice ? index * LLQ_BYTES : ring.address;
      const requests = queue.outstanding().map((reqId) => ({ reqId, address: 0 }));
      const kind = EnaRingKind.TX_SQ;
      state.submissionQueue({ ...submission(queue), ring: kind, inDevice, address }, requests);
    }
    for (const queue of rx.filter((q) => q !== undefined)) {
      const place = { ...submission(queue), ring: EnaRingKind.RX_SQ };
      state.submissionQueue(place, queue.outstanding());
    }
  }

  readonly levers: NicLevers = {
    fail: (code, text) => {
      this.events.plain(AenqGroup.FATAL_ERROR);
      this.#lifecycle.fail(code, text);
    },
    requestReset: () => this.events.plain(AenqGroup.DEVICE_REQUEST_RESET),
  };

  #dropAll(): void {
    this.#admin.reset();
    this.events.reset();
    this.#datapath.dropQueues();
    this.#vectors.reset();
    this.#features.reset();
    this.pci.reset();
    this.#context.host.memory.abandon();
  }

  #driver(): string {
    const host = this.#features.host;
    if (host === undefined) return "unknown";
    return `${host.kernelVerStr} ${host.driverMajor}.${host.driverMinor}.${host.driverSubMinor}`;
  }
}

/** The properties of a submission queue that a capture gets. */
const submission = ({ index, cq, ring }: SubmissionQueue) => ({
  index,
  cqIndex: cq.index,
  register: DOORBELLS + index * 4,
  ...ring.place,
});

const ringSnapshot = ({ index, ring, cq }: SubmissionQueue) => ({
  index,
  depth: ring.depth,
  head: ring.cursor.head,
  tail: ring.tail,
  cqHead: cq.ring.cursor.head,
  kept: cq.ring.staged,
  vector: cq.vector,
});
