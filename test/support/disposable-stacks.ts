/** Loaded before the tests of every file: the stacks of ECMA-262 that tests use and Node 22 lacks. */

type Disposable = Partial<
  Record<typeof Symbol.asyncDispose | typeof Symbol.dispose, () => unknown>
>;

/** The part of DisposableStack and AsyncDisposableStack that tests use. An error ends it. */
class Stack {
  readonly #undo: (() => unknown)[] = [];

  use<T extends Disposable>(value: T): T {
    this.defer(() => (value[Symbol.asyncDispose] ?? value[Symbol.dispose])?.call(value));
    return value;
  }

  defer(undo: () => unknown): void {
    this.#undo.unshift(undo);
  }

  dispose(): void {
    for (const undo of this.#undo.splice(0)) undo();
  }

  async disposeAsync(): Promise<void> {
    for (const undo of this.#undo.splice(0)) await undo();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disposeAsync();
  }
}

const known = globalThis as unknown as Record<string, unknown>;
known["DisposableStack"] ??= Stack;
known["AsyncDisposableStack"] ??= Stack;
