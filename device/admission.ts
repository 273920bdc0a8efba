/** Admission of frontends: the policy that the device's owner gives, and the refusal of a hello. */

/** A request to join, as the frontend's hello describes it. None of its fields is verified. */
export interface JoinRequest {
  readonly name: string;
  /** Name of the segment that the NIC would join. */
  readonly segment: string;
  /** The MAC address that the frontend asks for. If undefined, the device computes one. */
  readonly mac: string | undefined;
  readonly personality: string;
  /** Program and version of the frontend. */
  readonly agent: string;
  /** HOST:PORT of the frontend's end of the connection. */
  readonly peer: string;
}

/** Limits of one NIC. An absent limit is that of the device. */
export interface Admission {
  /** Number of queue pairs, at most the number that the device offers. */
  readonly queues?: number;
  /** MTU in bytes, at most the MTU that the device offers. */
  readonly maxMtu?: number;
}

/**
 * Called for each hello, before the NIC gets its name. Throws Refusal for a frontend that may not
 * join. The frontend receives the code and the message.
 */
export type AdmissionPolicy = (request: JoinRequest) => Admission | undefined;

/** A refusal before welcome. The frontend receives the code and the sentence. */
export class Refusal extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = "Refusal";
    this.code = code;
  }
}
