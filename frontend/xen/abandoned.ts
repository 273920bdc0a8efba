/**
 * The backend that a step was waiting for is out of reach: link lost, suspended, or detached. What
 * resumes with this touches nothing any more; whoever took the link away has cleaned up.
 */
export class Abandoned extends Error {
  readonly code = "XEN_ABANDONED";
  constructor(why: string) {
    super(`xen: ${why}`);
    this.name = "Abandoned";
  }
}
