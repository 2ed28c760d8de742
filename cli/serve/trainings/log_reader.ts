import { isJsonObject } from "../../../model/checkpoint/json.ts";
import { parseJson } from "../../../model/checkpoint/parse_json.ts";
import { isNotFound } from "../../../model/files/file_error.ts";

/** The numbers of a step by their names: those of an object in the line by both, as in `losses.diffusion`. */
export type Figures = Readonly<Record<string, number>> & { readonly step: number };

/** What a log has now that it had not before. */
export interface LogNews {
  /** Whether the steps take the place of all before: at first, and when a training began anew or went back. */
  readonly begins: boolean;
  /** Each is later than the one before. */
  readonly steps: readonly Figures[];
  /** When the log was written last, in ms since 1970. */
  readonly written: number;
}

/** Of a larger log, the end is read. 100,000 steps have 70 MB. */
const MOST_BYTES = 2 ** 27;
/** Bytes that are read at once, and the longest line. */
const CHUNK = 2 ** 20;
/** The most figures of a step, and the longest name of one. */
const MOST_FIGURES = 64, LONGEST_NAME = 40;

/** Reads the `metrics.jsonl` of a training while it grows. Lines that are not whole or not right are left out. */
export class LogReader {
  #file: number | null | undefined;
  #at = 0;
  #last = 0;

  /** @param most bytes that are read at the first time, from the end */
  constructor(private readonly path: string, private readonly most = MOST_BYTES) {}

  /** What is new; undefined if there is no such file. */
  async read(): Promise<LogNews | undefined> {
    const { isFile } = await unlessGone(Deno.lstat(this.path)) ?? {};
    using file = isFile ? await unlessGone(Deno.open(this.path)) : undefined;
    if (!file) return undefined;
    const { ino, size, mtime } = await file.stat();
    // A log that is cut back is a new file.
    const begins = this.#file === undefined || ino !== this.#file || size < this.#at;
    if (begins) [this.#file, this.#at, this.#last] = [ino, Math.max(0, size - this.most), 0];
    return { begins, steps: await this.#rest(file), written: mtime?.getTime() ?? 0 };
  }

  async #rest(file: Deno.FsFile): Promise<Figures[]> {
    const steps: Figures[] = [], bytes = new Uint8Array(CHUNK);
    await file.seek(this.#at, Deno.SeekMode.Start);
    for (;;) {
      const count = await fill(file, bytes), end = bytes.subarray(0, count).lastIndexOf(NEWLINE) + 1;
      if (end === 0 && count < CHUNK) return steps;
      // Without an end in so many bytes, it is no line.
      this.#at += end || count;
      for (const line of new TextDecoder().decode(bytes.subarray(0, end)).split("\n")) {
        const step = figuresOf(line);
        if (step && step.step > this.#last) {
          steps.push(step);
          this.#last = step.step;
        }
      }
      await file.seek(this.#at, Deno.SeekMode.Start);
    }
  }
}

const NEWLINE = 10;

/** Reads until the bytes are full or the file ends. */
async function fill(file: Deno.FsFile, bytes: Uint8Array): Promise<number> {
  let count = 0;
  for (;;) {
    const read = await file.read(bytes.subarray(count));
    if (!read) return count;
    count += read;
  }
}

function figuresOf(line: string): Figures | undefined {
  let value: unknown;
  try {
    value = parseJson(line);
  } catch {
    return undefined;
  }
  if (!isJsonObject(value) || !Number.isSafeInteger(value.step)) return undefined;
  const all = Object.entries(value).flatMap(([name, figure]): [string, unknown][] =>
    isJsonObject(figure) ? Object.entries(figure).map(([inner, of]) => [`${name}.${inner}`, of]) : [[name, figure]]
  );
  const known = all.filter(([name, figure]) => Number.isFinite(figure) && name.length <= LONGEST_NAME);
  return { ...Object.fromEntries(known.slice(0, MOST_FIGURES)), step: value.step } as Figures;
}

async function unlessGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
