import { TilereelError } from "../../gpu/common/errors.ts";
import type { Family } from "../family.ts";

/**
 * Checks that something can be trained for a kind of models.
 *
 * @throws {TilereelError} if it makes video of pictures alone, which trainings do not have, or has two transformers
 */
export function checkTrainable({ name, images, parts }: Pick<Family, "name" | "images" | "parts">): void {
  const why = images?.image === "required"
    ? "they need a picture, and trainings have none"
    : parts.transformer_2
    ? "they have two transformers"
    : undefined;
  if (why === undefined) return;
  throw new TilereelError(`nothing can be trained for models of ${name}, because ${why}; use a model of text to video`);
}
