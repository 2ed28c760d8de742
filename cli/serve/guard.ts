import type { MiddlewareHandler } from "hono";
import { quoted } from "../../gpu/common/errors.ts";
import { isSameToken } from "../token.ts";
import { RequestError } from "./request_error.ts";

/** What a server lets in. */
export interface Door {
  /** The names that requests may call the server by. A page of another site that resolves to this machine has another. */
  readonly hosts: readonly string[];
  /** A secret that every request must have, if there is one: as a bearer token, or as `token` of the address. */
  readonly token?: string | undefined;
  /** Whether what is at a path holds no secret, as the page's own files: a browser asks for these without the token. */
  readonly isPublic: (path: string) => boolean;
}

/** Refuses requests for other hosts, from pages of other sites, and without the token. */
export function guard({ hosts, token, isPublic }: Door): MiddlewareHandler {
  return async (context, next) => {
    const url = new URL(context.req.url), { host = url.host, origin, authorization } = context.req.header();
    const name = host.replace(/:\d+$/, "");
    if (!hosts.includes(name)) {
      throw new RequestError(
        403,
        `this server does not answer for the host ${quoted(name)}: use ${hosts[0]}`,
      );
    }
    if (origin !== undefined && origin !== `${url.protocol}//${host}`) {
      throw new RequestError(403, `this server does not answer pages of ${quoted(origin)}: use its own page`);
    }
    if (token !== undefined && !isPublic(url.pathname)) {
      const given = authorization?.replace(/^Bearer /i, "") ?? url.searchParams.get("token") ?? "";
      if (!isSameToken(given, token)) {
        throw new RequestError(
          401,
          "this request has not the server's token: send it as a bearer token, or add ?token=",
        );
      }
    }
    await next();
  };
}
