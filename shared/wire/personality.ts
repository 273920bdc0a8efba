/** The personalities that hello can ask for, and what a driver of each calls its units. */
export const PERSONALITIES = ["ena", "xen"] as const;
export type Personality = (typeof PERSONALITIES)[number];

/** A unit is this and a number: ena0, xn0. */
export const UNIT_PREFIX: Readonly<Record<Personality, string>> = { ena: "ena", xen: "xn" };
