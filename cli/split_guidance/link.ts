import { cut, printable, quoted, TilereelError } from "../../gpu/common/errors.ts";
import {
  type DistantPass,
  type DistantVelocity,
  type GuidancePartner,
  PartnerLostError,
  type SplitClip,
} from "../../model/split_guidance/partner.ts";
import { type Address, addressText } from "../address.ts";
import { type Hello, whyOther } from "./hello.ts";
import { framesOf, type Head, type Message, MessageReader, notUnderstood, type Shapes } from "./message.ts";
import { clipMessage, END, type MethodRecord, stepMessage } from "./requests.ts";

/** Milliseconds until a connection is made and the assistant has said who it is; until it has prepared for a clip. */
const CONNECTING = 30_000, PREPARING = 300_000;
/** After it could not be reached, so many times as long goes by until it is tried again: that costs a batch little time. */
const WAITING = 20;

/** How an assistant is reached. */
export interface LinkOptions {
  readonly address: Address;
  readonly token?: string | undefined;
  /** What this process says of itself: an assistant that would compute other bytes is refused. */
  readonly own: Hello;
  /** See `GuidancePartner`. */
  readonly patience?: number | undefined;
  /** Told in a clause what may disappoint. */
  readonly onNote?: ((note: string) => void) | undefined;
}

/** The connection to an assistant. If it is lost, each clip tries to make it again. */
export class AssistantLink implements Disposable {
  readonly name: string;
  #connection: Connection | undefined;
  /** It is not tried again until then. */
  #notBefore = 0;

  private constructor(private readonly options: LinkOptions) {
    this.name = `the assistant at ${addressText(options.address)}`;
  }

  /** @throws {TilereelError} if there is no assistant, or it refuses, or would compute other bytes */
  static async open(options: LinkOptions): Promise<AssistantLink> {
    const link = new AssistantLink(options);
    await link.#connect();
    return link;
  }

  /** The assistant as a partner for clips with these settings of attention and step cache. */
  partner(methods: MethodRecord): GuidancePartner {
    const { name, options: { patience } } = this;
    return { name, patience, begin: (clip, signal) => this.#begin(clip, methods, signal) };
  }

  [Symbol.dispose](): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  async #begin(clip: SplitClip, methods: MethodRecord, signal?: AbortSignal): Promise<DistantPass> {
    const connection = await this.#reconnected();
    await connection.ask(clipMessage({ clip, methods }), "ready", PREPARING, signal).catch((error) => {
      connection.close();
      throw error;
    });
    return {
      velocity: async (step, latents) => {
        const message = stepMessage(step, clip.shape, latents);
        return velocityOf(await connection.ask(message, "velocity", Infinity, signal), step, clip);
      },
      sent: () => connection.sent(),
      [Symbol.dispose]: () => connection.isIdle ? connection.send(END) : connection.close(),
    };
  }

  async #reconnected(): Promise<Connection> {
    if (this.#connection?.isOpen) return this.#connection;
    const start = performance.now(), lost = `${this.name} is not there any more`;
    if (start < this.#notBefore) throw new PartnerLostError(lost);
    return await this.#connect().catch((error) => {
      const now = performance.now();
      this.#notBefore = now + WAITING * (now - start);
      throw error instanceof Busy || error instanceof Unreachable
        ? new PartnerLostError(error instanceof Busy ? `${this.name} helps another process now` : lost)
        : error;
    });
  }

  async #connect(): Promise<Connection> {
    const { name, options: { address, token, own, onNote } } = this;
    const connection = await Connection.open(name, address, token);
    try {
      const { head } = await connection.next("hello", CONNECTING);
      const why = whyOther(head, own);
      if (why !== undefined) throw new TilereelError(`${name} ${why}`);
      if (head.adapter !== own.adapter) {
        onNote?.(
          `${name} runs on ${quoted(String(head.adapter))}, and this process on ${
            quoted(own.adapter)
          }: the bytes may ` +
            `differ from those of one process`,
        );
      }
      return this.#connection = connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }
}

/** Nobody listens there, or it cannot be spoken to now. */
class Unreachable extends TilereelError {}

/** It helps another process. */
class Busy extends TilereelError {}

/** A WebSocket, on which each question has one answer. */
class Connection {
  readonly #received: Message[] = [];
  #isAsking = false;
  readonly #reader = new MessageReader(checkAnswer);
  #lost: TilereelError | undefined;
  #changed = Promise.withResolvers<void>();

  private constructor(private readonly socket: WebSocket, private readonly name: string) {
    socket.onmessage = ({ data }) => {
      try {
        const message = this.#reader.push(data);
        if (message) this.#received.push(message);
      } catch (error) {
        this.#lose(new PartnerLostError(`${name} sent nonsense: ${(error as Error).message}`));
      }
      this.#tell();
    };
    socket.onclose = socket.onerror = () => {
      this.#lose(new PartnerLostError(`${name} has gone`));
      this.#tell();
    };
  }

  static async open(name: string, address: Address, token: string | undefined): Promise<Connection> {
    const where = addressText(address), opened = Promise.withResolvers<void>();
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    // Deno's takes headers, which the types of browsers do not know.
    const socket = new WebSocket(`ws://${where}/`, { headers } as unknown as string[]);
    socket.binaryType = "arraybuffer";
    const connection = new Connection(socket, name);
    const timer = setTimeout(() => opened.reject(new Unreachable(`${name} does not answer`)), CONNECTING);
    socket.onopen = () => opened.resolve();
    socket.addEventListener("error", (event) => {
      const said = event instanceof ErrorEvent ? event.message : "";
      opened.reject(
        said.includes("status code: 401")
          ? new TilereelError(
            token === undefined
              ? `${name} asks for a secret: give the one that it was started with, as --token SECRET`
              : `${name} has another secret: give the one that it was started with, as --token SECRET`,
            { option: "token" },
          )
          : /status code/.test(said)
          ? new TilereelError(`what answers at ${where} is no assistant: start one with "tilereel assist"`)
          : new Unreachable(
            `no assistant listens at ${where}: start one there with "tilereel assist --listen ${where}"`,
            { option: "split-guidance" },
          ),
      );
    });
    try {
      await opened.promise;
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  get isOpen(): boolean {
    return !this.#lost;
  }

  send(message: Message): void {
    if (this.socket.readyState !== WebSocket.OPEN) return this.#lose(new PartnerLostError(`${this.name} has gone`));
    for (const frame of framesOf(message)) this.socket.send(frame);
  }

  /** Waits until all that was sent has left this process, or it is closed. */
  async sent(): Promise<void> {
    while (this.isOpen && this.socket.bufferedAmount > 0) await new Promise((resolve) => setTimeout(resolve));
  }

  /** Whether it is open, and no answer is missing. */
  get isIdle(): boolean {
    return this.isOpen && !this.#isAsking;
  }

  /** Sends a message, and waits for the answer. If that is not waited for, the connection can only be closed. */
  async ask(message: Message, kind: string, patience: number, signal?: AbortSignal): Promise<Message> {
    if (this.#lost) throw this.#lost;
    this.#isAsking = true;
    this.send(message);
    const answer = await this.next(kind, patience, signal);
    this.#isAsking = false;
    return answer;
  }

  /**
   * The next message, which must be of a kind.
   *
   * @param patience in milliseconds
   * @throws {PartnerLostError} if the connection is lost, or it takes too long
   * @throws {TilereelError} if the assistant refuses
   */
  async next(kind: string, patience: number, signal?: AbortSignal): Promise<Message> {
    const most = patience === Infinity ? undefined : setTimeout(() => {
      this.#lose(new PartnerLostError(`${this.name} did not answer within ${patience / 1000} s`));
      this.#tell();
    }, patience);
    const wake = () => this.#tell();
    signal?.addEventListener("abort", wake);
    try {
      while (true) {
        signal?.throwIfAborted();
        const message = this.#received.shift();
        if (message) return this.#checked(message, kind);
        if (this.#lost) throw this.#lost;
        await this.#changed.promise;
      }
    } finally {
      clearTimeout(most);
      signal?.removeEventListener("abort", wake);
    }
  }

  close(): void {
    this.#lose(new PartnerLostError(`${this.name} is not needed any more`));
  }

  #checked(message: Message, kind: string): Message {
    const { head } = message, why = printable(cut(String(head.why), 500));
    if (head.kind === kind) return message;
    if (head.kind === "busy") throw new Busy(`${this.name} refuses: ${why}`);
    if (head.kind === "refused") throw new TilereelError(`${this.name} refuses: ${why}`);
    throw new PartnerLostError(
      head.kind === "failed" ? `${this.name} cannot go on (${why})` : `${this.name} said something else than expected`,
    );
  }

  #lose(error: TilereelError): void {
    this.#lost ??= error;
    try {
      this.socket.close();
    } catch {
      // It was never open.
    }
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** Checks the tensors that an assistant sends. */
function checkAnswer({ kind }: Head, shapes: Shapes): void {
  const names = Object.keys(shapes).join();
  if (names !== (kind === "velocity" ? "velocity" : "")) throw notUnderstood("its tensors are not those of its kind");
}

/** @throws {PartnerLostError} if it is not the answer to this step */
function velocityOf({ head, tensors }: Message, step: number, { shape, timesteps }: SplitClip): DistantVelocity {
  const { layers, spared = {} } = head, { steps, blocks, attentions } = spared as Readonly<Record<string, unknown>>;
  const counts = [steps ?? 0, blocks ?? 0, attentions ?? 0];
  const fits = head.step === step && tensors.velocity!.shape.join() === shape.join() && Array.isArray(layers) &&
    [...layers, ...counts].every((count) => Number.isSafeInteger(count) && count >= 0) &&
    counts[0] as number <= timesteps.length;
  if (!fits) throw new PartnerLostError("the assistant's answer does not fit the question");
  const [a, b, c] = counts as [number, number, number];
  return {
    velocity: tensors.velocity!.data,
    layers: layers as number[],
    ...head.spared !== undefined && { spared: { steps: a, blocks: b, attentions: c } },
  };
}
