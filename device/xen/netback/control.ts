/**
 * The control ring: requests of the frontend, answered one after the other.
 *
 *   IDLE --request--> answered at once
 *     '--with a page--> bytes pushed: answered at once
 *                       else READING, its grant pinned --read--> answered
 *
 * Source: xen: xen/include/public/io/netif.h, struct xen_netif_ctrl_request; linux:
 * drivers/net/xen-netback/netback.c, process_ctrl_request.
 */

import type { VifStatus } from "../../../shared/status/device-status.ts";
import { type BusAddress, Space } from "../../../shared/wire/records.ts";
import {
  type CtrlRequest,
  CtrlStatus,
  CtrlType,
  ctrlMappingEntry,
  ctrlRequest,
  ctrlResponse,
} from "../../../shared/xen/control.ts";
import { Gntst, grantAddress, grantRef } from "../../../shared/xen/grant.ts";
import { BACKEND_DOMID } from "../../../shared/xen/xenbus.ts";
import { grantPush, type Span } from "../../dma/host-memory.ts";
import { type BackRing, OVERRUN } from "./back-ring.ts";
import { type Hashing, MAX_KEY_BYTES, MAX_MAPPING } from "./hash.ts";
import type { Netback } from "./netback.ts";

const EMPTY = new Uint8Array(0);
/** Most requests answered in one turn. */
const BURST = 128;

export class ControlRing {
  readonly ring: BackRing;
  requests = 0;
  refused = 0;
  readonly #vif: Netback;
  readonly #hashing: Hashing;
  readonly #span: Span = { buffer: EMPTY, at: 0, length: 0 };
  #reading = false;
  #closed = false;
  /** Pinned while `#reading`. */
  #gref = grantRef(0);

  constructor(vif: Netback, ring: BackRing, hashing: Hashing) {
    this.#vif = vif;
    this.ring = ring;
    this.#hashing = hashing;
  }

  /** Answers the waiting requests, up to a burst. */
  run(): void {
    for (let done = 0; done < BURST && !this.#reading && !this.#closed; done++) {
      const { ring } = this;
      const available = ring.look();
      if (available === OVERRUN) {
        this.#vif.fatal("CTRL_REQ_PROD", "control ring: more requests than slots");
        return;
      }
      if (available === 0) {
        ring.arm(1);
        return;
      }
      const request = ctrlRequest.parse(ring.view, ring.at(0));
      ring.consume(1);
      this.#handle(request);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#reading) this.#vif.context.grants.unpin(this.#gref, false);
    this.#reading = false;
    this.ring.close();
  }

  #handle(request: CtrlRequest): void {
    const hashing = this.#hashing;
    const { type, data0, data1, data2 } = request;
    switch (type) {
      case CtrlType.GET_HASH_FLAGS: {
        const flags = hashing.capableFlags;
        if (flags < 0) this.#answer(request, CtrlStatus.NOT_SUPPORTED);
        else this.#answer(request, CtrlStatus.SUCCESS, flags);
        return;
      }
      case CtrlType.SET_HASH_FLAGS:
        this.#answer(request, hashing.setFlags(data0));
        return;
      case CtrlType.SET_HASH_ALGORITHM:
        this.#answer(request, hashing.setAlgorithm(data0));
        return;
      case CtrlType.GET_HASH_MAPPING_SIZE:
        this.#answer(request, CtrlStatus.SUCCESS, MAX_MAPPING);
        return;
      case CtrlType.SET_HASH_MAPPING_SIZE:
        this.#answer(request, hashing.setMappingSize(data0));
        return;
      case CtrlType.SET_HASH_KEY:
        if (data1 > MAX_KEY_BYTES) this.#answer(request, CtrlStatus.INVALID_PARAMETER);
        else this.#withPage(request, data1);
        return;
      case CtrlType.SET_HASH_MAPPING:
        if (!hashing.mappingHolds(data2, data1)) {
          this.#answer(request, CtrlStatus.INVALID_PARAMETER);
        } else this.#withPage(request, data1 * ctrlMappingEntry.size);
        return;
      // Premapped grants (GREF_MAPPING) serve backends that map packet pages. This backend copies.
      default:
        this.#answer(request, CtrlStatus.NOT_SUPPORTED);
    }
  }

  /** A request with `length` bytes at the front of the page that data0 grants. */
  #withPage(request: CtrlRequest, length: number): void {
    const { grants, host } = this.#vif.context;
    const gref = grantRef(request.data0);
    const address = grantAddress(gref, 0);
    if (length === 0) {
      this.#apply(request, EMPTY);
      return;
    }
    if (grants.checkCopy(gref, 0, length, false, BACKEND_DOMID) !== Gntst.OKAY) {
      this.#answer(request, CtrlStatus.INVALID_PARAMETER);
      return;
    }
    const span = this.#span;
    if (host.memory.pushes.find(grantPush(address), length, span)) {
      this.#apply(request, span.buffer.subarray(span.at, span.at + length));
      return;
    }
    if (grants.pin(gref, false) !== Gntst.OKAY) {
      this.#answer(request, CtrlStatus.INVALID_PARAMETER);
      return;
    }
    this.#reading = true;
    this.#gref = gref;
    grants.flushUses();
    void this.#read(request, address, length);
  }

  async #read(request: CtrlRequest, address: BusAddress, length: number): Promise<void> {
    const { grants, host } = this.#vif.context;
    let bytes: Uint8Array | undefined;
    try {
      bytes = await host.memory.read(Space.GRANT, address, length);
    } catch {
      // The read was refused, or the ring was closed meanwhile.
    }
    if (this.#closed) return;
    this.#reading = false;
    grants.unpin(this.#gref, false);
    if (bytes === undefined) this.#answer(request, CtrlStatus.INVALID_PARAMETER);
    else this.#apply(request, bytes);
    this.#vif.wake();
  }

  #apply(request: CtrlRequest, bytes: Uint8Array): void {
    let status: CtrlStatus = CtrlStatus.SUCCESS;
    if (request.type === CtrlType.SET_HASH_KEY) this.#hashing.setKey(bytes);
    else {
      const entries = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      status = this.#hashing.setMapping(entries, request.data2, request.data1);
    }
    this.#answer(request, status);
  }

  #answer({ id, type, data0 }: CtrlRequest, status: CtrlStatus, data = 0): void {
    if (type === CtrlType.SET_HASH_KEY || type === CtrlType.SET_HASH_MAPPING) {
      // The bytes pushed for the request end with it, used or not.
      this.#vif.context.host.memory.pushes.release(grantPush(grantAddress(grantRef(data0), 0)));
    }
    this.requests++;
    if (status !== CtrlStatus.SUCCESS) this.refused++;
    const { ring } = this;
    ctrlResponse.write(ring.view, ring.respond(), { id, type, status, data });
  }

  snapshot(): Omit<NonNullable<VifStatus["control"]>, "port" | "spuriousEvents"> {
    return { requests: this.requests, refused: this.refused, ring: this.ring.snapshot() };
  }
}
