/**
 * The kinds of classic pcap, which differ in the header of a record. Magic number and version tell
 * most of them apart; for the rest the first records are looked at, as Wireshark does.
 *
 *   standard    | seconds | fraction | captured | original |                            16 bytes
 *   Nokia       ... | unknown u32 |                                                      20
 *   patched     ... | interface u32 | protocol u16 | type u8 | padding u8 |              24
 *   patched+    ... | interface u32 | protocol u16 | type u8 | processors u8×2 | padding 28
 *
 * The patched kinds come from Alexey Kuznetzov's patches of 1999, which Red Hat and SuSE shipped.
 *
 * Source: Wireshark: wiretap/libpcap.c (libpcap_open, libpcap_try_record).
 */
const SECONDS_ONLY = 1_000_000;
const FRACTION = 4;
const CAPTURED = 8;
const ORIGINAL = 12;
const EXTRA = 16;
const PROTOCOL = 20;
const PACKET_TYPE = 22;

const MAX_TRIED = 3;
/** Of a packet in such files; Wireshark reads no longer one. */
const MAX_CAPTURED_BYTES = 262_144;
const MAX_ORIGINAL_BYTES = 128 * 1024 * 1024;
const MAX_INTERFACE = 10_000;
const MAX_PACKET_TYPE = 4;

export const Variant = { STANDARD: 16, NOKIA: 20, PATCHED: 24, PATCHED_MORE: 28 } as const;
/** Bytes of a record's header. */
export type Variant = (typeof Variant)[keyof typeof Variant];

/** The kinds of file that share a magic number. In doubt the first one is taken. */
export const STANDARD_VARIANTS = [Variant.STANDARD, Variant.PATCHED, Variant.NOKIA] as const;
export const PATCHED_VARIANTS = [Variant.PATCHED, Variant.PATCHED_MORE] as const;

/** Behind the first records: more that may come, more that is not looked at, or the end of the file. */
export const Rest = { COMES: 0, UNSEEN: 1, NOTHING: 2 } as const;
export type Rest = (typeof Rest)[keyof typeof Rest];

/** The variant of the first records, or the number of bytes that are needed to tell it. */
export type Verdict = { readonly variant: Variant } | { readonly needs: number };

/**
 * The variant whose record headers make the most sense in `records`, the file's first records as far
 * as they are there. While more may come the answer may be to wait: until one variant alone fits the
 * records that are there, or until more of them can't change the answer.
 */
export function variantOf(
  records: DataView,
  little: boolean,
  snapLength: number,
  variants: readonly Variant[],
  rest: Rest,
): Verdict {
  const views = variants.map((variant) => viewAs(variant, records, little, snapLength, rest));
  let best = 0;
  for (const [n, { faults }] of views.entries()) if (faults < views[best]!.faults) best = n;
  const variant = variants[best]!;
  const needs = views.flatMap((view) => view.needs ?? []);
  if (rest !== Rest.COMES || needs.length === 0) return { variant };
  const { faults, needs: more } = views[best]!;
  const isAlone = faults === 0 && views.every((view, n) => n === best || view.faults > 0);
  const areTried = views.every(({ tried }) => tried > 0);
  // Faults only become more: a variant that has been looked at to the end is not beaten any more.
  if (more === undefined || (isAlone && areTried)) return { variant };
  return { needs: Math.min(...needs) };
}

interface View {
  /** How many things are odd. */
  readonly faults: number;
  /** Headers that were looked at. */
  readonly tried: number;
  /** With so many bytes there is one header more to look at; undefined: enough were. */
  readonly needs: number | undefined;
}

/** The first records, read as `variant`. */
function viewAs(
  variant: Variant,
  records: DataView,
  little: boolean,
  snapLength: number,
  rest: Rest,
): View {
  let faults = 0;
  let at = 0;
  for (let tried = 0; tried < MAX_TRIED; tried++) {
    const needs = at + variant;
    if (needs > records.byteLength) {
      // The bytes that are left are too short for a header: the file ends, or it is of another kind.
      const isOdd = rest === Rest.NOTHING && at !== records.byteLength;
      return { faults: faults + odd(isOdd), tried, needs };
    }
    const captured = records.getUint32(at + CAPTURED, little);
    faults += faultsOf(records, at, little, snapLength, variant);
    if (captured > MAX_CAPTURED_BYTES) return { faults, tried: tried + 1, needs: undefined };
    at = needs + captured;
  }
  return { faults, tried: MAX_TRIED, needs: undefined };
}

/** How many things are odd about the record at `at`, read as `variant`. */
function faultsOf(
  records: DataView,
  at: number,
  little: boolean,
  snapLength: number,
  variant: Variant,
): number {
  const u32 = (field: number): number => records.getUint32(at + field, little);
  const captured = u32(CAPTURED);
  const original = u32(ORIGINAL);
  let faults = odd(u32(FRACTION) >= SECONDS_ONLY);
  faults += odd(captured > snapLength) + odd(captured > original);
  faults += odd(captured > MAX_CAPTURED_BYTES) + odd(original > MAX_ORIGINAL_BYTES);
  if (variant === Variant.NOKIA) faults += odd(!isNokia(u32(EXTRA)));
  if (variant >= Variant.PATCHED) {
    faults += odd(u32(EXTRA) > MAX_INTERFACE);
    faults += odd(!isProtocol(records.getUint16(at + PROTOCOL, little)));
    faults += odd(records.getUint8(at + PACKET_TYPE) > MAX_PACKET_TYPE);
  }
  return faults;
}

const odd = (is: boolean): number => (is ? 1 : 0);

/** An EtherType, or one of Linux's own numbers. */
const isProtocol = (type: number): boolean =>
  type >= 0x600 || type <= 0x17 || type === 0x60 || type === 0x200 || type === 0x400;

/** 0xXfbfYZ0W, as such files have been seen to have. */
const isNokia = (word: number): boolean => /^[9b]fbf[bd][69]0[12]$/.test(word.toString(16));
