/** Options of an ENA device. */
import { type OptionValues, oneWord, wholeNumber, yesOrNo } from "../option.ts";

export const ENA_OPTIONS = {
  readless: yesOrNo(
    "whether the device writes register values to the driver's memory; false: plain reads (true)",
  ),
  disableMetaCaching: yesOrNo(
    "with low-latency queues: whether every packet needs a meta descriptor (false)",
  ),
  // Both orders are legal, because drivers identify requests by their id.
  completionOrder: oneWord(
    ["fifo", "shuffle"],
    "use of receive buffers and order of transmit completions (fifo)",
  ),
  seed: wholeNumber(1, 999_999_999, "where the random order of shuffle begins (1)"),
  // FreeBSD's driver reverses the 40 bytes and claims that hardware needs this. Linux's driver does
  // not. It is not known which of them is right.
  rssKeyOrder: oneWord(
    ["reversed", "asSent"],
    "byte order in which a driver sends its hash key (reversed)",
  ),
};

/** The features that an ENA function offers to its driver. */
export interface EnaOptions extends OptionValues<typeof ENA_OPTIONS> {
  /** Offer low latency queues (descriptors and headers in BAR 2). Default true. */
  readonly llq?: boolean;
}
