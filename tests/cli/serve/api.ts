import { assert } from "@std/assert";
import Ajv2020 from "ajv/dist/2020.js";

/** What a body has. */
export type Fields = Readonly<Record<string, unknown>>;

/** Answers, checked against the server's own description. */
export class Api {
  private constructor(private readonly url: string, private readonly check: (name: string, body: unknown) => void) {}

  static async open(url: string): Promise<Api> {
    const description = await (await fetch(`${url}/openapi.json`)).json();
    const ajv = new Ajv2020.default({ strict: false, allErrors: true });
    ajv.addSchema({ $id: "api", ...description });
    return new Api(url, (name, body) => {
      const validate = ajv.getSchema(`api#/components/schemas/${name}`)!;
      assert(validate(body), `${name}: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(body)}`);
    });
  }

  async ask(schema: string, path: string, init: RequestInit = {}): Promise<{ status: number; body: Fields }> {
    const answer = await fetch(`${this.url}${path}`, init), body = await answer.json();
    this.check(answer.ok ? schema : "Error", body);
    return { status: answer.status, body };
  }

  /** The value, which must be what the description says. */
  checked<T>(schema: string, value: T): T {
    this.check(schema, value);
    return value;
  }

  async create(request: Fields): Promise<{ status: number; body: Fields }> {
    return await this.post("Video", "/v1/videos", request);
  }

  async post(schema: string, path: string, request: Fields): Promise<{ status: number; body: Fields }> {
    const headers = { "content-type": "application/json" };
    return await this.ask(schema, path, { method: "POST", headers, body: JSON.stringify(request) });
  }

  /** The states of a job until it has ended, by its events. */
  async watch(id: unknown): Promise<Fields[]> {
    const text = await (await fetch(`${this.url}/v1/videos/${id}/events`)).text();
    const told = [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!) as Fields);
    for (const job of told) this.check(job.deleted ? "DeletedVideo" : "Video", job);
    return told;
  }
}
