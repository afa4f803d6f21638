// A form made from a JSON schema, and the value that it holds: so every game has its page at once.
//
// What a form cannot show well (open objects, unions of objects) is asked for as JSON. A field that may be left out
// and was left empty is left out.

import { h } from "./dom.js";

const LONG_TEXT = 100;
const DEEPEST = 6;

/** The fields of an object schema: `element`, `read()`, `next()`, `show(errors)` and `focus()`. */
export function schemaForm(schema, idPrefix = "field") {
  const fields = objectFields(schema, { root: schema, path: [], depth: 0, prefix: idPrefix });
  const all = () => fields.flatMap((field) => [field, ...(field.inner?.() ?? [])]);
  const [needed, optional] = [fields.filter((field) => field.required), fields.filter((field) => !field.required)];
  // A lone optional field is no reason to hide it; where all are optional, they are the form.
  const more = needed.length > 0 && optional.length > 0;
  const element = h(
    "div",
    { class: "fields" },
    (more ? needed : fields).map((field) => field.element),
    more && h("details", { class: "more" }, h("summary", {}, "More fields"), h("div", { class: "fields" }, optional.map((field) => field.element))),
  );
  return {
    element,
    /** Whether the next step starts without what was written for this one. */
    empties: all().some((field) => field.empties),
    /** The value; raises Invalid, with the field focused, where one cannot be read. */
    read: () => readObject(fields),
    /** Empty what was written, and keep what was chosen: most moves are like the one before. */
    next: () => all().forEach((field) => field.next?.()),
    focus: () => element.querySelector("textarea, input, select")?.focus(),
    /** Show the server's errors at the fields that they name; what names none is given back. */
    show(errors) {
      const rest = [];
      for (const field of all()) field.complain("");
      for (const error of errors) {
        const path = error.loc.filter((part) => part !== "body" && part !== "action").map(String);
        const at = all()
          .filter((field) => field.path.every((part, index) => part === path[index]))
          .sort((one, other) => other.path.length - one.path.length)[0];
        if (at === undefined) rest.push(error);
        else at.complain(error.msg);
      }
      return rest;
    },
  };
}

/** A field's value cannot be read. */
export class Invalid extends Error {}

function objectFields(schema, context) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, inner]) =>
    makeField(name, inner, { ...context, path: [...context.path, name], required: required.has(name) }),
  );
}

function readObject(fields) {
  const value = {};
  for (const field of fields) {
    const read = field.read();
    if (read !== undefined) value[field.name] = read;
  }
  return value;
}

/** The schema with its reference followed, and `null` taken off a union of one type and null. */
function resolved(schema, root, depth = 0) {
  if (depth > DEEPEST) return {};
  if (typeof schema.$ref === "string") {
    const target = schema.$ref.replace(/^#\//, "").split("/").reduce((node, part) => node?.[part], root);
    const { $ref: _, ...beside } = schema;
    return resolved({ ...target, ...beside }, root, depth + 1);
  }
  if (schema.allOf?.length === 1) {
    const { allOf, ...beside } = schema;
    return resolved({ ...allOf[0], ...beside }, root, depth + 1);
  }
  const union = schema.anyOf ?? schema.oneOf;
  if (union !== undefined) {
    const kinds = union.filter((kind) => kind.type !== "null");
    const { anyOf: _, oneOf: __, ...beside } = schema;
    if (kinds.length === 1) return resolved({ ...kinds[0], ...beside }, root, depth + 1);
  }
  return schema;
}

function makeField(name, given, context) {
  const schema = resolved(given, context.root);
  const described = { name, path: context.path, required: context.required };
  const kind = kindOf(schema, context.depth);
  if (kind === "object") return nested(described, given, schema, context);
  const id = [context.prefix, ...context.path].join("-");
  const control = CONTROLS[kind](schema, context.required);
  control.element.id = id;
  const hint = h("p", { class: "hint", id: `${id}-hint` });
  const complaint = h("p", { class: "complaint", id: `${id}-complaint`, hidden: true });
  const about = schema.description ?? "";
  hint.textContent = [about, control.about].filter(Boolean).join(" · ");
  hint.hidden = hint.textContent === "";
  control.element.setAttribute("aria-describedby", `${id}-hint ${id}-complaint`);
  if (context.required) control.element.setAttribute("aria-required", "true");
  const label = h("label", { for: id }, titled(name, given), !context.required && h("span", { class: "optional" }, " optional"));
  const counter = kind === "text" && schema.maxLength !== undefined ? lengthCounter(control.element, schema.maxLength) : null;

  function complain(text) {
    complaint.textContent = text;
    complaint.hidden = text === "";
    control.element.setAttribute("aria-invalid", text === "" ? "false" : "true");
    const details = control.element.closest("details");
    if (text !== "" && details !== null) details.open = true;
  }
  control.element.addEventListener("input", () => complain(""));

  return {
    ...described,
    empties: kind === "text",
    element: h(
      "div",
      { class: `field ${kind}` },
      kind === "boolean" ? h("div", { class: "check" }, control.element, label) : [h("div", { class: "label-row" }, label, counter?.element), control.element],
      hint,
      complaint,
    ),
    complain,
    next() {
      complain("");
      control.next?.();
      counter?.count();
    },
    read() {
      try {
        return control.read();
      } catch (error) {
        complain(error.message);
        control.element.focus();
        throw new Invalid(`${titled(name, given)}: ${error.message}`);
      }
    },
  };
}

/** An object whose fields are known: a group of fields. Left out, where it may be, if nothing in it was filled in. */
function nested(described, given, schema, context) {
  const fields = objectFields(schema, { ...context, depth: context.depth + 1 });
  const complaint = h("p", { class: "complaint", hidden: true });
  return {
    ...described,
    element: h("fieldset", {}, h("legend", {}, titled(described.name, given)), h("div", { class: "fields" }, fields.map((field) => field.element)), complaint),
    inner: () => fields.flatMap((field) => [field, ...(field.inner?.() ?? [])]),
    complain(text) {
      complaint.textContent = text;
      complaint.hidden = text === "";
    },
    read() {
      const value = readObject(fields);
      return !described.required && Object.keys(value).length === 0 ? undefined : value;
    },
  };
}

function kindOf(schema, depth) {
  if (schema.const !== undefined) return "constant";
  if (schema.enum !== undefined) return "choice";
  switch (schema.type) {
    case "string":
      return "text";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "boolean";
    case "object":
      return Object.keys(schema.properties ?? {}).length > 0 && depth < DEEPEST ? "object" : "json";
    default:
      return "json";
  }
}

const CONTROLS = {
  text(schema, required) {
    const long = (schema.maxLength ?? Infinity) > LONG_TEXT && schema.format === undefined && schema.pattern === undefined;
    const element = long ? h("textarea", { rows: 2, spellcheck: "false", autocomplete: "off" }) : h("input", { type: "text", autocomplete: "off" });
    const start = schema.default ?? "";
    element.value = start;
    return {
      element,
      next: () => (element.value = start),
      read() {
        const value = element.value;
        if (value === "" && !required) return undefined;
        const length = [...value].length;
        if (length > (schema.maxLength ?? Infinity)) throw new Invalid(`At most ${schema.maxLength} characters, and these are ${length}.`);
        if (length < (schema.minLength ?? 0)) throw new Invalid(`At least ${schema.minLength} characters.`);
        return value;
      },
    };
  },
  number(schema, required) {
    const whole = schema.type === "integer";
    const element = h("input", { type: "text", inputmode: whole ? "numeric" : "decimal", autocomplete: "off" });
    element.value = schema.default ?? "";
    const bounds = [
      schema.minimum !== undefined && `from ${schema.minimum}`,
      schema.exclusiveMinimum !== undefined && `above ${schema.exclusiveMinimum}`,
      schema.maximum !== undefined && `to ${schema.maximum}`,
      schema.exclusiveMaximum !== undefined && `below ${schema.exclusiveMaximum}`,
    ].filter(Boolean);
    return {
      element,
      about: [whole ? "a whole number" : "a number", ...bounds].join(" "),
      read() {
        const text = element.value.trim();
        if (text === "" && !required) return undefined;
        const value = Number(text);
        if (text === "" || !Number.isFinite(value)) throw new Invalid("This is to be a number.");
        if (whole && !Number.isInteger(value)) throw new Invalid("This is to be a whole number.");
        // Beyond 2^53 a number here is not the number that was typed.
        if (whole && !Number.isSafeInteger(value)) throw new Invalid("This number is too large for a browser to send exactly.");
        return value;
      },
    };
  },
  boolean(schema) {
    const element = h("input", { type: "checkbox", checked: schema.default === true });
    return { element, read: () => element.checked };
  },
  choice(schema, required) {
    const options = schema.enum.map((value, index) => h("option", { value: String(index) }, typeof value === "string" ? value : JSON.stringify(value)));
    const element = h("select", {}, !required && h("option", { value: "" }, "–"), options);
    const start = schema.enum.indexOf(schema.default);
    element.value = start >= 0 ? String(start) : required ? "0" : "";
    return { element, read: () => (element.value === "" ? undefined : schema.enum[Number(element.value)]) };
  },
  constant(schema) {
    const element = h("output", {}, JSON.stringify(schema.const));
    return { element, read: () => schema.const };
  },
  json(schema, required) {
    const element = h("textarea", { rows: 2, class: "mono", spellcheck: "false", autocomplete: "off" });
    element.value = schema.default === undefined || schema.default === null ? "" : JSON.stringify(schema.default);
    return {
      element,
      about: schema.type === "array" ? "a JSON array" : schema.type === "object" ? "a JSON object" : "JSON",
      read() {
        const text = element.value.trim();
        if (text === "" && !required) return undefined;
        try {
          return JSON.parse(text);
        } catch {
          throw new Invalid("This is not JSON.");
        }
      },
    };
  },
};

/** How long a text is, in code points as the server counts them. */
function lengthCounter(element, most) {
  const shown = h("span", { class: "counter" });
  function count() {
    const length = element.value.length > most * 2 ? element.value.length : [...element.value].length;
    shown.textContent = `${length.toLocaleString("en")} / ${most.toLocaleString("en")}`;
    shown.classList.toggle("over", length > most);
  }
  element.addEventListener("input", count);
  count();
  return { element: shown, count };
}

/** A field's title: the schema's own, unless it only repeats the name as pydantic does. */
function titled(name, schema) {
  const words = name.replaceAll("_", " ");
  const plain = words.charAt(0).toUpperCase() + words.slice(1);
  return schema.title === undefined || schema.title.toLowerCase() === words.toLowerCase() ? plain : schema.title;
}
