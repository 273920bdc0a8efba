/** The rate of one port: a token bucket for the bytes that it sends. */
import { TokenBucket } from "../../shared/token-bucket.ts";

const BURST_MS = 100;
/** Least default of the burst: the longest frame. Otherwise a slow port could never send it. */
const MIN_BURST_BYTES = 65_536 + 64;

/** `rate` in bits a second, `burst` in bytes. The units of the bucket are bytes. */
export function rateLimit(rate: number, burst?: number): TokenBucket {
  const msPerByte = 8000 / rate;
  const burstMs = Math.max(BURST_MS, MIN_BURST_BYTES * msPerByte);
  return new TokenBucket(msPerByte, burst === undefined ? burstMs : burst * msPerByte);
}
