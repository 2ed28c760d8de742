import { downloadFile, HubApiError, listFiles } from "@huggingface/hub";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";

/** Hugging Face's own address. */
const DEFAULT_ENDPOINT = "https://huggingface.co";

/** A file of a model on a hub. */
export interface HubFile {
  /** Its path in the model's folder. */
  readonly path: string;
  readonly bytes: number;
  /** The digest of its contents: SHA-256 of large files, and git's own SHA-1 of others. */
  readonly digest: { readonly algorithm: "sha256" | "git"; readonly hex: string };
}

/** A model on a hub. */
export interface HubModel {
  /** Owner and name. */
  readonly id: string;
  /** A branch, tag or commit. */
  readonly revision: string;
}

/** A hub that speaks Hugging Face's protocol. */
export class Hub {
  readonly #common: { readonly hubUrl: string; readonly accessToken?: string };

  /**
   * @param endpoint its address. Default: Hugging Face's
   * @param token for models that are not public
   * @throws {TilereelError} if the address or the token is none
   */
  constructor(readonly endpoint: string = DEFAULT_ENDPOINT, private readonly token?: string) {
    if (!/^https?:\/\//.test(endpoint) || !URL.canParse(endpoint)) {
      throw new TilereelError(`HF_ENDPOINT must be an address that begins with https://, not ${quoted(endpoint)}`);
    }
    if (token && !token.startsWith("hf_")) {
      throw new TilereelError(
        "HF_TOKEN must be a token of Hugging Face, which begins with hf_; copy it from your settings there",
      );
    }
    this.#common = { hubUrl: endpoint.replace(/\/+$/, ""), ...token && { accessToken: token } };
  }

  /**
   * All files of a model.
   *
   * @throws {TilereelError} if there is no such model, it may not be read, or the hub does not answer
   */
  async files({ id, revision }: HubModel): Promise<HubFile[]> {
    const found: HubFile[] = [];
    try {
      for await (const entry of listFiles({ ...this.#common, repo: id, revision, recursive: true })) {
        if (entry.type !== "file") continue;
        const { path, size: bytes, oid = "", lfs } = entry;
        const digest = lfs ? { algorithm: "sha256", hex: lfs.oid } as const : { algorithm: "git", hex: oid } as const;
        found.push({ path, bytes, digest });
      }
    } catch (error) {
      throw this.#refused(error, id);
    }
    return found;
  }

  /**
   * The bytes of a file from `start` on, of which there is at least one.
   *
   * @throws {TilereelError} if the hub refuses it
   * @throws another error if the connection breaks: then it can be tried again
   */
  async read({ id, revision }: HubModel, { path }: HubFile, start: number): Promise<ReadableStream<Uint8Array>> {
    try {
      // Xet's own protocol has no address that a proxy or a mirror serves; every hub serves plain HTTP.
      const blob = await downloadFile({ ...this.#common, repo: id, revision, path, xet: false });
      if (!blob) throw new TilereelError(`${id} has no file ${quoted(path)} any more; run the same command again`);
      return (start === 0 ? blob : blob.slice(start, blob.size)).stream();
    } catch (error) {
      if (error instanceof HubApiError && error.statusCode < 500) throw this.#refused(error, id);
      throw error;
    }
  }

  #refused(error: unknown, id: string): unknown {
    if (error instanceof TilereelError) return error;
    const host = new URL(this.endpoint).host;
    if (!(error instanceof HubApiError)) {
      const why = error instanceof Error ? error.message : String(error);
      return new TilereelError(`${host} cannot be reached (${quoted(why)}); check the connection, and run it again`);
    }
    const { statusCode } = error;
    if (statusCode === 401 || statusCode === 403) {
      // Hugging Face does not tell a model that is not there from one that is not public.
      return new TilereelError(
        this.token
          ? `${host} does not let this HF_TOKEN read ${
            quoted(id)
          }; accept the model's terms on its page, or check the name`
          : `${host} has no public model ${quoted(id)}; check the name, or set HF_TOKEN to a token that may read it`,
      );
    }
    if (statusCode === 404) return new TilereelError(`${host} has no model ${quoted(id)}; check the name`);
    return new TilereelError(`${host} answers with status ${statusCode}; run the same command again later`);
  }
}
