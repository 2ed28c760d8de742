import { assert, assertEquals } from "@std/assert";
import { quoted, quotedValue, TilereelError } from "../../../gpu/common/errors.ts";

Deno.test("foreign text is cut, and moves no cursor", () => {
  assertEquals(quoted('a "b" \u001b[31m'), '"a \\"b\\" \\u001b[31m"');
  assertEquals(quoted("x".repeat(100)), `"${"x".repeat(59)}…"`);
  for (const char of ["\u0000", '"', "\u009b", "\u202e", "\ud800", "\\"]) {
    const text = quoted(char.repeat(1000));
    assert(text.length <= 124 && /^"(\\.|[^"\\])*"$/.test(text) && !/[\p{Cc}\u202e]/u.test(text), text);
  }
  assertEquals(quotedValue([1, { a: null }]), '[1,{"a":null}]');
  assertEquals(quotedValue(new Array(1000).fill(0)).length, 60);
  assertEquals(new TilereelError(`a\u0007${"x".repeat(1e6)}`).message.length, 1205);
});
