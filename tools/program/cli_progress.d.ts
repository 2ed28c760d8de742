/**
 * The part of cli-progress that is used. Its own types would bring all of Node's, which contradict those Deno has.
 */
import type { WriteStream } from "node:tty";

export interface Options {
  stream: WriteStream;
  format: (options: unknown, params: { progress: number; value: number; total: number }) => string;
  hideCursor: boolean;
  linewrap: boolean;
}
export class SingleBar {
  constructor(options: Options);
  start(total: number, startValue: number): void;
  update(value: number): void;
  stop(): void;
}
declare const cliProgress: { SingleBar: typeof SingleBar };
export default cliProgress;
