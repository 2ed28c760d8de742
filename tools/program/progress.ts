import process from "node:process";
import type { WriteStream } from "node:tty";
// @ts-types="./cli_progress.d.ts"
import cliProgress, { type SingleBar } from "cli-progress";
import type { OnProgress, Progress } from "../../model/progress.ts";
import { formatDuration } from "./format_duration.ts";

/** Milliseconds a stage takes before it is shown. */
const SHOW_AFTER = 1000;
/** Milliseconds between plain lines. */
const LINE_EVERY = 5000;
const BAR_WIDTH = 24;

/** Where progress is shown; the defaults are this process's. */
export interface ProgressOptions {
  readonly stream?: WriteStream;
  /** The time in milliseconds. */
  readonly now?: () => number;
}

/** A display of progress. Call {@linkcode ProgressDisplay.stop} before anything else is printed. */
export interface ProgressDisplay {
  readonly onProgress: OnProgress;
  /** Ends the stage on display. */
  stop(): void;
}

/** Shows progress on the standard error: a bar on a terminal, else plain lines. Stages below a second are not shown. */
export function showProgress(options: ProgressOptions = {}): ProgressDisplay {
  const { stream = process.stderr, now = () => performance.now() } = options;
  let stage: Stage | undefined;
  const stop = () => {
    stage?.stop();
    stage = undefined;
  };
  return {
    onProgress(progress) {
      if (stage?.name !== nameOf(progress) || progress.done < stage.progress.done) {
        stop();
        stage = new Stage(progress, now, stream);
      }
      stage.update(progress);
      if (progress.done >= progress.total) stop();
    },
    stop,
  };
}

/** `clip 2 of 3, denoise`. */
function nameOf({ part, stage }: Progress): string {
  return part === undefined ? stage : `${part}, ${stage}`;
}

/** A stage on display: as a bar where there is a terminal, else as lines. */
class Stage {
  readonly name: string;
  readonly #start: number;
  /** Units that were done before; they do not count for the speed. */
  readonly #before: number;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;
  /** The first unit, which often takes longer than others: kernels are compiled. Once there are two, it does not count. */
  #first: { readonly done: number; readonly seconds: number } | undefined;
  #bar: SingleBar | undefined;
  /** When the last line was written, in milliseconds from the start. */
  #shown: number | undefined;

  constructor(
    public progress: Progress,
    private readonly now: () => number,
    private readonly stream: WriteStream,
  ) {
    this.name = nameOf(progress);
    this.#start = now();
    this.#before = progress.done;
    if (stream.isTTY) this.#timer = setTimeout(() => this.#showBar(), SHOW_AFTER);
  }

  update(progress: Progress): void {
    this.progress = progress;
    const { done } = progress;
    if (done > this.#before) this.#first ??= { done, seconds: this.#seconds() };
    this.#bar?.update(progress.done);
    if (this.#timer !== undefined) return;
    const elapsed = this.now() - this.#start, isEnd = progress.done >= progress.total;
    if (elapsed < (isEnd || this.#shown === undefined ? SHOW_AFTER : this.#shown + LINE_EVERY)) return;
    this.#shown = elapsed;
    this.stream.write(`${this.#line()}\n`);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#bar?.stop();
  }

  /** `denoise  3/10  30%  12 s, 28 s left`, with `bar` after the name and the detail at the end. */
  #line(bar = ""): string {
    const { done, total, detail } = this.progress;
    const percent = total > 0 ? Math.floor(100 * done / total) : 100;
    const seconds = this.#seconds(), first = this.#first;
    const since = first && done > first.done ? first : { done: this.#before, seconds: 0 };
    const each = (seconds - since.seconds) / (done - since.done);
    const left = first && done < total ? `, ${formatDuration(each * (total - done))} left` : "";
    const more = detail === undefined ? "" : `  ${detail}`;
    return `${this.name}${bar}  ${Math.floor(done)}/${total}  ${percent}%  ${formatDuration(seconds)}${left}${more}`;
  }

  #seconds(): number {
    return (this.now() - this.#start) / 1000;
  }

  #showBar(): void {
    this.#bar = new cliProgress.SingleBar({
      stream: this.stream,
      format: (_, params) => {
        const full = Math.round(BAR_WIDTH * params.progress);
        return this.#line(`  ${"█".repeat(full)}${"░".repeat(BAR_WIDTH - full)}`);
      },
      // The cursor stays visible, so that nothing must be restored when Ctrl-C ends the program.
      hideCursor: false,
      linewrap: true,
    });
    this.#bar.start(this.progress.total, this.progress.done);
  }
}
