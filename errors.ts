/**
 * The errors a user can cause or must act on. The command line prints their message as one sentence and exits with 1;
 * anything else that is thrown is a bug in tilereel.
 *
 * @module
 */

/** Something the user can put right. The message says what was wrong, what was expected, and what to do. */
export class TilereelError extends Error {
  override name = "TilereelError";
}

/** Numbers came out that are not finite, and no clip. Other prompts and settings of the same model may fare better. */
export class NotFiniteError extends TilereelError {}
