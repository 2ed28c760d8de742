/// <reference lib="dom" />

/** A new element with properties. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Partial<HTMLElementTagNameMap[Name]> = {},
): HTMLElementTagNameMap[Name] {
  return Object.assign(document.createElement(name), properties);
}

/** The element of the page with an id. */
export function byId<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** A button that does something. */
export function button(text: string, onClick: () => void, className = ""): HTMLButtonElement {
  const made = element("button", { type: "button", textContent: text, className });
  made.addEventListener("click", onClick);
  return made;
}
