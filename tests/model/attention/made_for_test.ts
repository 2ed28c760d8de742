import { assertEquals, assertThrows } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { checkMadeFor, madeFor, madeForIn } from "../../../model/attention/made_for.ts";

Deno.test("files say for which kind of model they were made, and another is refused", () => {
  const metadata = { options: JSON.stringify({ model: "abc", ...madeFor({ name: "Wan 2.1 I2V" }) }) };
  assertEquals(madeForIn(metadata), "Wan 2.1 I2V");
  for (const other of [{}, { options: "{" }, { options: "[]" }, { options: '{"made for": 3}' }]) {
    assertEquals(madeForIn(other), undefined);
  }
  checkMadeFor("a", undefined, { name: "Wan 2.1" });
  checkMadeFor("a", "Wan 2.1", { name: "Wan 2.1" });
  assertThrows(
    () => checkMadeFor("router.safetensors", "Wan 2.1 I2V", { name: "Wan 2.1" }),
    TilereelError,
    'router.safetensors was made for models of "Wan 2.1 I2V", but this is one of Wan 2.1; use one for it',
  );
});
