import { DeviceLostError, OutOfMemoryError, TilereelError } from "../../gpu/common/errors.ts";
import type { DistantPass } from "../../model/split_guidance/partner.ts";
import { framesOf, type Message, MessageReader, notUnderstood } from "./message.ts";
import { type BegunClip, checkRequest, clipOf, type ClipRequest } from "./requests.ts";

/** What helps with the clips of a main process. */
export interface Helper {
  readonly model: Parameters<typeof checkRequest>[0];
  /**
   * Prepares for a clip.
   *
   * @throws {TilereelError} if it cannot be computed as it was asked for
   */
  begin(request: ClipRequest): Promise<DistantPass>;
  /** Is told that a clip failed, before the next one. */
  failed(error: unknown): Promise<void>;
}

/** Where frames go. */
export interface Line {
  /** Does nothing once the other end has gone. */
  send(frame: string | Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** Answers the messages of one main process, one after the other. */
export class Session {
  #clip: BegunClip & { readonly distant: DistantPass } | undefined;
  #work: Promise<void>;
  #isAnswering = false;
  #ended = false;
  readonly #reader = new MessageReader((head, shapes) => {
    if (this.#isAnswering) throw notUnderstood("the one before is not answered yet");
    checkRequest(this.helper.model, this.#clip, head, shapes);
  });

  /** @param before the end of the session before this one */
  constructor(private readonly line: Line, private readonly helper: Helper, before: Promise<void>) {
    this.#work = before;
  }

  /** Takes a frame that was received. What is no message ends the session. */
  take(frame: unknown): void {
    if (this.#ended) return;
    try {
      const message = this.#reader.push(frame);
      if (!message) return;
      if (message.head.kind === "end") return this.#endClip();
      this.#isAnswering = true;
      this.#work = this.#work.then(() => this.#answer(message)).catch((error) => this.#refuse(error))
        .finally(() => this.#isAnswering = false);
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** Ends the session, once what is computed is done. */
  async end(): Promise<void> {
    this.#ended = true;
    await this.#work;
    this.#endClip();
  }

  async #answer(message: Message): Promise<void> {
    if (this.#ended) return;
    const { head: { kind, step }, tensors } = message;
    try {
      if (kind === "step") await this.#step(step as number, tensors.latents!.data);
      else await this.#begin(message);
    } catch (error) {
      this.#endClip();
      await this.helper.failed(error);
      this.#refuse(error);
    }
  }

  async #begin({ head, tensors }: Message): Promise<void> {
    this.#endClip();
    const request = clipOf(this.helper.model, head, tensors), { shape, timesteps } = request.clip;
    this.#clip = { distant: await this.helper.begin(request), shape, steps: timesteps.length };
    this.#send({ head: { kind: "ready" }, tensors: {} });
  }

  async #step(step: number, latents: Float32Array): Promise<void> {
    const { distant, shape, steps } = this.#clip!;
    const { velocity, layers, spared } = await distant.velocity(step, latents);
    this.#clip = { distant, shape, steps, next: step + 1 };
    this.#send({ head: { kind: "velocity", step, layers, spared }, tensors: { velocity: { data: velocity, shape } } });
  }

  #send(message: Message): void {
    if (!this.#ended) { for (const frame of framesOf(message)) this.line.send(frame); }
  }

  /** Says why, and ends the session: what follows could not be understood. */
  #refuse(error: unknown): void {
    const isMistake = error instanceof TilereelError, lacks = error instanceof OutOfMemoryError;
    const why = isMistake ? error.message : "something went wrong there, and was printed there: please report it";
    // What is no mistake of the other end may be done without.
    const kind = isMistake && !lacks && !(error instanceof DeviceLostError) ? "refused" : "failed";
    this.#send({ head: { kind, why }, tensors: {} });
    this.#ended = true;
    this.line.close();
  }

  #endClip(): void {
    this.#clip?.distant[Symbol.dispose]();
    this.#clip = undefined;
  }
}
