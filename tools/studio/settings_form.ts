/// <reference lib="dom" />
import { byId, element } from "../web/elements.ts";
import type { FieldSchema } from "./api.ts";

/** The settings that are always seen, in this order. */
const MAIN = ["attention", "keep", "size", "frames", "steps", "guidance", "seed", "tile-map"];
/** Fields that the page has of its own. */
const OWN = ["prompt", "model", "seconds"];

const form = byId<HTMLFormElement>("form");

/** The attention of a clip that names none, where the server can tell. */
export interface UsualAttention {
  readonly attention?: string;
  readonly fullBranch?: string;
}

/** Makes a field for each setting of a request, as the server describes it. */
export function buildFields(properties: Readonly<Record<string, FieldSchema>>, usual: UsualAttention): void {
  const names = Object.keys(properties).filter((name) => !OWN.includes(name));
  for (const name of MAIN.filter((name) => names.includes(name))) {
    byId("main-fields").append(field(name, properties[name]!));
  }
  for (const name of names.filter((name) => !MAIN.includes(name))) {
    const wrapped = element("div");
    const note = element("p", {
      className: "note",
      textContent: properties[name]!.description ?? "",
      id: `about-${name}`,
    });
    const made = field(name, properties[name]!);
    made.querySelector("input, select")!.setAttribute("aria-describedby", note.id);
    wrapped.append(made, note);
    byId("more-fields").append(wrapped);
  }
  if (usual.attention !== undefined) {
    form.querySelector("[name=attention] option")!.textContent = `default (${usual.attention})`;
  }
  const offer = () => offerTileMap(usual);
  form.addEventListener("input", offer);
  form.addEventListener("reset", () => setTimeout(offer));
  offer();
}

/** Offers a map of tiles where tiles are selected. */
function offerTileMap(usual: UsualAttention): void {
  const map = form.querySelector<HTMLInputElement>("[name=tile-map]");
  if (!map) return;
  const { attention = usual.attention, "full-branch": chosen } = formValues();
  const branch = chosen ?? (attention === usual.attention ? usual.fullBranch : undefined);
  map.disabled = attention !== "veda" && branch !== "veda";
  map.closest("label")!.hidden = map.disabled;
}

/** The values of the form that are not empty. */
export function formValues(): Record<string, string> {
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== "")) as Record<string, string>;
}

/**
 * Fills in settings; all others become empty.
 *
 * @param record what a clip was made with, as its file or its job has it
 */
export function useSettings(record: Readonly<Record<string, unknown>>): void {
  form.reset();
  const { width, height, size, negativePrompt } = record;
  const all: Record<string, unknown> = {
    ...record,
    size: size ?? (width && `${width}x${height}`),
    negative: negativePrompt,
  };
  for (const control of form.elements) {
    if (!(control instanceof HTMLInputElement || control instanceof HTMLSelectElement) || control.name === "") continue;
    const value = all[control.name] ?? all[control.name.replace(/-./g, (dash) => dash[1]!.toUpperCase())];
    if (value === undefined || value === null) continue;
    if (control.type === "checkbox") (control as HTMLInputElement).checked = value === true;
    else control.value = textOf(value);
  }
  byId<HTMLTextAreaElement>("prompt").value = String(record.prompt ?? "");
  form.dispatchEvent(new Event("input"));
  byId("prompt").focus();
}

/** A value of a job or a record as a form has it. */
export function textOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return value.join();
  const { width, height } = value as { width?: number; height?: number };
  return width === undefined ? "" : `${width}x${height}`;
}

function field(
  name: string,
  { description = "", enum: choices, anyOf = [], default: usual }: FieldSchema,
): HTMLLabelElement {
  const label = element("label", { title: description });
  label.append(`${name[0]!.toUpperCase()}${name.slice(1).replaceAll("-", " ")} `);
  if (choices) {
    const select = element("select", { name });
    select.append(element("option", { value: "", textContent: "default" }));
    for (const value of choices) if (value !== null) select.append(element("option", { value, textContent: value }));
    label.append(select);
    return label;
  }
  if (anyOf.some(({ type }) => type === "boolean")) {
    label.prepend(element("input", { name, type: "checkbox", value: "true" }), " ");
    return label;
  }
  const input = element("input", { name, placeholder: usual === undefined ? "default" : String(usual) });
  const number = anyOf.find(({ type }) => type === "number" || type === "integer");
  // A size or a list is a text, although it may also be a number.
  if (number && !anyOf.some(({ type }) => type === "array")) {
    input.type = "number";
    input.step = number.type === "integer" ? "1" : "any";
    if (number.minimum !== undefined) input.min = String(number.minimum);
    if (number.maximum !== undefined) input.max = String(number.maximum);
  }
  label.append(input);
  return label;
}
