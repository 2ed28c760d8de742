/** What the thread of the program tells or asks the main thread, which has all rights. */
export type FromThread =
  | { readonly exit: number }
  | { readonly self: true; readonly reply: SharedArrayBuffer }
  | { readonly isRunning: [pid: number, start: string]; readonly reply: SharedArrayBuffer }
  | { readonly bundleStudio: true };

/** What the main thread posts when it was asked for the studio's script. */
export type BundledStudio = { readonly script: Uint8Array<ArrayBuffer> } | { readonly error: string };

/** Room for an answer: its length, and JSON. */
const REPLY_BYTES = 512, LENGTH_BYTES = 4;

/**
 * Asks a question and waits for the answer, in the thread of the program.
 *
 * @param post tells the main thread
 */
export function ask(
  question: { self: true } | { isRunning: [pid: number, start: string] },
  post: (message: FromThread) => void,
): unknown {
  const reply = new SharedArrayBuffer(REPLY_BYTES), length = new Int32Array(reply, 0, 1);
  post({ ...question, reply });
  Atomics.wait(length, 0, 0);
  return JSON.parse(new TextDecoder().decode(new Uint8Array(reply, LENGTH_BYTES, length[0]!).slice()));
}

/** Answers it, in the main thread. */
export function answer(reply: SharedArrayBuffer, value: unknown): void {
  const bytes = new TextEncoder().encode(JSON.stringify(value)), length = new Int32Array(reply, 0, 1);
  new Uint8Array(reply, LENGTH_BYTES).set(bytes);
  Atomics.store(length, 0, bytes.length);
  Atomics.notify(length, 0);
}
