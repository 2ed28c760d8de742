/// <reference lib="dom" />
import { VOCABULARY } from "./demo_prompts.ts";
import { button, element } from "./elements.ts";

/** Rows of buttons with the words that the demo model knows. Each puts its word into the prompt. */
export function vocabularyRows(prompt: HTMLTextAreaElement): HTMLElement[] {
  const put = (word: string) => prompt.setRangeText(word, prompt.selectionStart, prompt.selectionEnd, "end");
  return Object.entries(VOCABULARY).map(([kind, words]) => {
    const row = element("p", { className: "note", textContent: `${kind}: ` });
    row.append(...words.map((word) => button(word, () => put(word), "word")));
    return row;
  });
}
