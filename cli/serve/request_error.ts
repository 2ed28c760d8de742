import { TilereelError } from "../../gpu/common/errors.ts";
import { requestOptions } from "../../tools/program/clip/batch_options.ts";
import { withKeys } from "../../tools/program/clip/read_values.ts";

/** An answer to a request that cannot be done, with one sentence. */
export class RequestError extends Error {
  constructor(
    readonly status: 400 | 401 | 403 | 404 | 408 | 409 | 413 | 415,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
  ) {
    super(message);
  }
}

/** An error as OpenAI's API answers it, and its status. */
export function errorAnswer(error: unknown) {
  const answer = (message: string, type: string, code: string | null = null, param: string | null = null) => ({
    error: { message, type, code, param },
  });
  if (error instanceof RequestError) {
    const { status, message, code, param } = error;
    return { status, body: answer(message, "invalid_request_error", code, param) };
  }
  if (error instanceof TilereelError) {
    const message = withKeys(error.message, requestOptions);
    return { status: 400 as const, body: answer(message, "invalid_request_error", null, error.option ?? null) };
  }
  const why = "something went wrong in the server, which printed what: please report it";
  return { status: 500 as const, body: answer(why, "server_error") };
}
