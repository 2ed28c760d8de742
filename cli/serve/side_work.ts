import { TilereelError } from "../../gpu/common/errors.ts";
import { workerUrl } from "../../model/embedded.ts";
import type { Cost, FromSideWorker, Likeness, Planned, SideAnswer, SideTask, ToSideWorker } from "./side_messages.ts";

type Of<T extends SideTask["task"]> = Omit<Extract<SideTask, { readonly task: T }>, "task">;

/** Has work done in a second worker, which is started when there is some: the server answers others meanwhile. */
export class SideWork implements Disposable {
  #worker: Worker | undefined;
  #count = 0;
  readonly #waiting = new Map<number, PromiseWithResolvers<SideAnswer>>();

  /** @param opening the first message */
  constructor(private readonly opening: Extract<ToSideWorker, { readonly open: unknown }>) {}

  /** A clip with its pictures, which are decoded. @throws {TilereelError} as `PlanningModel.ready` does */
  async plan(of: Of<"plan">): Promise<Planned> {
    return await this.#answer({ task: "plan", ...of }) as Planned;
  }

  /** What a clip costs on a GPU. @throws {TilereelError} if its settings cannot be used */
  async cost(of: Of<"cost">): Promise<Cost> {
    return await this.#answer({ task: "cost", ...of }) as Cost;
  }

  /** How alike two files are. @throws {TilereelError} if one cannot be read */
  async likeness(of: Of<"likeness">): Promise<Likeness> {
    return await this.#answer({ task: "likeness", ...of }) as Likeness;
  }

  [Symbol.dispose](): void {
    this.#worker?.terminate();
  }

  #answer(work: SideTask): Promise<SideAnswer> {
    this.#worker ??= this.#openWorker();
    const id = this.#count++, answer = Promise.withResolvers<SideAnswer>();
    this.#waiting.set(id, answer);
    this.#worker.postMessage({ id, work } satisfies ToSideWorker);
    return answer.promise;
  }

  #openWorker(): Worker {
    const worker = new Worker(workerUrl("cli/serve/side_worker.ts"), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<FromSideWorker>) => this.#told(data);
    worker.onerror = (event) => {
      // Else the server would end, too. The next task gets a new worker.
      event.preventDefault();
      worker.terminate();
      this.#worker = undefined;
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message));
      this.#waiting.clear();
    };
    worker.postMessage(this.opening);
    return worker;
  }

  #told(told: FromSideWorker): void {
    const answer = this.#waiting.get(told.id);
    this.#waiting.delete(told.id);
    if ("answer" in told) return answer?.resolve(told.answer);
    const { error, bug, option } = told;
    answer?.reject(bug ? new Error(error) : new TilereelError(error, { option }));
  }
}
