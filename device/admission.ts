/** Which frontends may join a device: the policy that its owner gives, and the refusal of a hello. */

/** A frontend that asks to join, as its hello describes it. Nothing of it is verified. */
export interface JoinRequest {
  readonly name: string;
  /** The address that the frontend asks for; undefined: the device computes one. */
  readonly mac: string | undefined;
  readonly personality: string;
  /** Program and version. */
  readonly agent: string;
  /** HOST:PORT of the frontend's end of the connection. */
  readonly peer: string;
}

/** Limits of one NIC. What is absent is as the device has it. */
export interface Admission {
  /** Queue pairs, at most what the device offers. */
  readonly queues?: number;
  /** Bytes, at most what the device offers. */
  readonly maxMtu?: number;
}

/**
 * Called for each hello, before the NIC gets its name. Throws Refusal for a frontend that may not
 * join; the frontend learns code and message.
 */
export type AdmissionPolicy = (request: JoinRequest) => Admission | undefined;

/** A refusal before welcome. The frontend learns the code and the sentence. */
export class Refusal extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = "Refusal";
    this.code = code;
  }
}
