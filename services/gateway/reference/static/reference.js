"use strict";

/* Elements are made one by one and text is set as text: nothing of a document can become markup. */
function make(tag, options, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options || {})) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/* Text with `code` between backticks. */
function inline(text) {
  return text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

function prose(text) {
  return (text || "").split(/\n\s*\n/).map((paragraph) => make("p", {}, ...inline(paragraph)));
}

function resolve(root, schema) {
  return schema && schema.$ref ? schema.$ref.slice(2).split("/").reduce((node, key) => node[key], root) : schema;
}

function typeName(root, schema) {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf || schema.oneOf) return (schema.anyOf || schema.oneOf).map((one) => typeName(root, one)).join(" | ");
  if (schema.type === "array") return typeName(root, schema.items) + "[]";
  return (schema.type || "any") + (schema.format ? ` (${schema.format})` : "");
}

const BOUNDS = { minimum: "≥ ", maximum: "≤ ", exclusiveMinimum: "> ", exclusiveMaximum: "< ", minLength: "length ≥ ", maxLength: "length ≤ ",
  minItems: "items ≥ ", maxItems: "items ≤ ", pattern: "pattern ", default: "default " };

function bounds(schema) {
  const parts = [schema, ...(schema.anyOf || [])].flatMap((one) =>
    Object.entries(BOUNDS).filter(([name]) => one[name] !== undefined && one[name] !== null && one[name] !== "").map(([name, text]) => text + one[name]));
  return parts.join(", ");
}

/* The schemas that a schema mentions, for the rows under it. */
function mentioned(schema) {
  if (!schema) return [];
  if (schema.$ref) return [schema.$ref];
  return [...(schema.anyOf || []), ...(schema.oneOf || []), ...(schema.items ? [schema.items] : [])].flatMap(mentioned);
}

function fields(root, schema, prefix = "", seen = []) {
  const whole = resolve(root, schema);
  if (!whole) return [];
  if (whole.type === "array" || whole.anyOf || whole.oneOf)
    return mentioned(whole).flatMap((ref) => (seen.includes(ref) ? [] : fields(root, { $ref: ref }, prefix + (whole.type === "array" ? "[]." : ""), [...seen, ref])));
  const required = whole.required || [];
  return Object.entries(whole.properties || {}).flatMap(([name, field]) => {
    const shown = resolve(root, field);
    const path = prefix + name;
    const inside = mentioned(field).filter((ref) => !seen.includes(ref));
    const list = field.type === "array" ? "[]" : "";
    return [
      make("tr", {}, make("td", {}, make("code", {}, path), required.includes(name) ? "" : make("span", { class: "soft" }, " optional")),
        make("td", {}, typeName(root, field)), make("td", { class: "soft" }, ...inline([field.description || shown.description || "", bounds(field)].filter(Boolean).join("; ")))),
      ...inside.flatMap((ref) => (resolve(root, { $ref: ref }).properties ? fields(root, { $ref: ref }, path + list + ".", [...seen, ref]) : [])),
    ];
  });
}

function table(heads, rows) {
  return make("table", {}, make("tr", {}, ...heads.map((head) => make("th", {}, head))), ...rows);
}

function schemaTable(root, schema) {
  const rows = fields(root, schema);
  return rows.length ? table(["field", "type", ""], rows) : make("p", {}, make("code", {}, typeName(root, schema)));
}

/* `entries`: {group, summary, text, body()}; a body is made when it is first opened. */
function show(entries) {
  const content = document.getElementById("content");
  const filter = document.getElementById("filter");
  const groups = new Map();
  content.replaceChildren();
  for (const entry of entries) {
    if (!groups.has(entry.group)) {
      const section = make("section", {}, make("h2", {}, entry.group));
      groups.set(entry.group, { section, items: [] });
      content.append(section);
    }
    const item = make("details", { id: entry.id }, make("summary", {}, ...entry.summary));
    item.addEventListener("toggle", () => { if (item.open && item.children.length === 1) item.append(make("div", {}, ...entry.body())); });
    groups.get(entry.group).section.append(item);
    groups.get(entry.group).items.push({ item, text: (entry.group + " " + entry.text).toLowerCase() });
  }
  const none = make("p", { class: "soft" }, "Nothing matches.");
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let any = false;
    for (const { section, items } of groups.values()) {
      let found = false;
      for (const { item, text } of items) {
        item.hidden = !words.every((word) => text.includes(word));
        found = found || !item.hidden;
      }
      section.hidden = !found;
      any = any || found;
    }
    if (any) none.remove(); else content.append(none);
  };
  const reveal = () => {
    const item = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (item) { item.open = true; item.scrollIntoView(); }
  };
  filter.addEventListener("input", apply);
  filter.value = new URLSearchParams(location.search).get("q") || "";
  apply();
  reveal();
  addEventListener("hashchange", reveal);
}

async function load(url, render) {
  try {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
    const document_ = await answer.json();
    document.getElementById("about").replaceChildren(...prose(document_.info.description));
    show(render(document_));
  } catch (error) {
    document.getElementById("content").replaceChildren(make("p", {}, String(error)));
  }
}
