/// <reference lib="dom" />
import type { ImageNeeds } from "../../model/pictures_of_clip.ts";
import { button, element } from "../web/elements.ts";
import { address } from "./api.ts";

/** Which pictures a model takes, as the server says. */
export interface PictureNeeds {
  readonly image: ImageNeeds["image"];
  readonly "last-image": ImageNeeds["lastImage"];
}

/** The pictures of a job: where they are. */
type JobPictures = Readonly<Partial<Record<keyof PictureNeeds, string>>>;

/** Of each picture: the key of a request, and what it is called here. */
const WORDS = {
  image: { key: "input_reference", label: "Picture to begin with" },
  "last-image": { key: "last_image", label: "Picture to end with" },
} as const;

/**
 * The pictures of a job by the keys of a request.
 *
 * @throws an error with a sentence, if one was removed
 */
export async function filesOf(pictures: JobPictures = {}): Promise<Record<string, File>> {
  const entries = Object.entries(pictures) as [keyof PictureNeeds, string][];
  return Object.fromEntries(
    await Promise.all(entries.map(async ([name, path]) => [WORDS[name].key, await fileOf(name, path)] as const)),
  );
}

async function fileOf(name: keyof PictureNeeds, path: string): Promise<File> {
  const answer = await fetch(address(path));
  if (!answer.ok) throw new Error(`the ${WORDS[name].label.toLowerCase()} was removed: choose one`);
  const picture = await answer.blob();
  return new File([picture], name, { type: picture.type });
}

/** Fields for the pictures that a model takes; none for a model that takes none. */
export class PictureFields {
  readonly #fields = new Map<keyof PictureNeeds, PictureField>();

  constructor(place: HTMLElement, needs: PictureNeeds) {
    for (const name of ["image", "last-image"] as const) {
      if (needs[name] === "none") continue;
      const field = new PictureField(WORDS[name].label, needs[name] === "required");
      this.#fields.set(name, field);
      place.append(field.element);
    }
    place.hidden = this.#fields.size === 0;
  }

  /** The chosen pictures by the keys of a request. */
  get chosen(): Readonly<Record<string, File>> {
    const files = [...this.#fields].flatMap(([name, { file }]) => file ? [[WORDS[name].key, file] as const] : []);
    return Object.fromEntries(files);
  }

  /** Takes a picture that was dropped on the page: it is the first that is missing, or takes the place of the last. */
  take(file: File): boolean {
    const fields = [...this.#fields.values()], field = fields.find(({ file }) => !file) ?? fields.at(-1);
    field?.choose(file);
    return field !== undefined;
  }

  /** Chooses the pictures of a job, and no others. */
  async use(pictures: JobPictures = {}): Promise<void> {
    for (const [name, field] of this.#fields) {
      const path = pictures[name];
      field.choose(path === undefined ? undefined : await fileOf(name, path));
    }
  }
}

class PictureField {
  readonly element = element("div", { className: "picture" });
  readonly #input = element("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/gif" });
  readonly #shown = element("img", { alt: "", hidden: true });
  readonly #remove = button("Remove", () => this.choose(undefined));

  constructor(name: string, isRequired: boolean) {
    const label = element("label");
    label.append(isRequired ? name : `${name} (optional)`, this.#input);
    this.#input.required = isRequired;
    this.#input.addEventListener("change", () => this.#show());
    this.#remove.hidden = true;
    this.#remove.setAttribute("aria-label", `Remove the ${name.toLowerCase()}`);
    this.element.append(label, this.#shown, this.#remove);
  }

  get file(): File | undefined {
    return this.#input.files?.[0];
  }

  choose(file: File | undefined): void {
    const data = new DataTransfer();
    if (file) data.items.add(file);
    this.#input.files = data.files;
    this.#show();
  }

  #show(): void {
    URL.revokeObjectURL(this.#shown.src);
    const { file } = this;
    if (file) this.#shown.src = URL.createObjectURL(file);
    this.#shown.hidden = this.#remove.hidden = file === undefined;
  }
}
