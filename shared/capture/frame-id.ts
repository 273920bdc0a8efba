/**
 * Names for frames, so that a reader of captures finds all sightings of one. The process counts,
 * because one capture file may have the frames of a device and of NICs in the same process.
 */
let last = 0;

/** The next value for `Frame.id`: 1, 2, 3 ... in this process. */
export const nextFrameId = (): number => ++last;
