const HISTORY = "caravan.graphql.history";
const KEPT = 30;
const START = `{
  products(first: 3) {
    nodes { sku name price { amount currency } stock { available } }
  }
}`;
const TYPE = "kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
const SCHEMA = `{ __schema { queryType { name } mutationType { name } subscriptionType { name } types { kind name description
  fields { name description type { ...type } args { name description defaultValue type { ...type } } }
  inputFields { name description defaultValue type { ...type } } } } } fragment type on __Type { ${TYPE} }`;

const at = (id) => document.getElementById(id);

function typeText(type) {
  if (type.kind === "NON_NULL") return typeText(type.ofType) + "!";
  return type.kind === "LIST" ? `[${typeText(type.ofType)}]` : type.name;
}

function innermost(type) {
  return type.ofType ? innermost(type.ofType) : type;
}

function readHistory() {
  try {
    return JSON.parse(localStorage.getItem(HISTORY)) || [];
  } catch {
    return [];
  }
}

function remember(text, variables) {
  const kept = [{ text, variables }, ...readHistory().filter((one) => one.text !== text || one.variables !== variables)].slice(0, KEPT);
  try {
    localStorage.setItem(HISTORY, JSON.stringify(kept));
  } catch { /* without storage there is no history */ }
  showHistory();
}

function showHistory() {
  const options = readHistory().map((one, index) => make("option", { value: index }, one.text.replace(/\s+/g, " ").slice(0, 120)));
  at("history").replaceChildren(make("option", { value: "" }, options.length ? "What you ran" : "Nothing yet"), ...options);
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

let running = null;

/* A subscription is answered with events, whose data is shown as it comes. */
async function readEvents(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data) at("answer").append(pretty(data) + "\n");
    }
  }
}

async function run() {
  if (running) running.abort();
  const mine = running = new AbortController();
  const text = at("document").value;
  at("answer").textContent = "";
  at("said").textContent = "Running…";
  at("stop").disabled = false;
  try {
    const variables = at("variables").value.trim() ? JSON.parse(at("variables").value) : {};
    const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
    if (at("token").value.trim()) headers.authorization = `Bearer ${at("token").value.trim()}`;
    const began = performance.now();
    const answer = await fetch("/graphql", { method: "POST", headers, body: JSON.stringify({ query: text, variables }), signal: mine.signal });
    remember(text, at("variables").value);
    const parts = [answer.status, `${Math.round(performance.now() - began)} ms`, answer.headers.get("graphql-cost"), answer.headers.get("cache-status")];
    at("said").textContent = parts.filter(Boolean).join(" · ");
    if ((answer.headers.get("content-type") || "").startsWith("text/event-stream")) await readEvents(answer);
    else at("answer").textContent = pretty(await answer.text());
  } catch (error) {
    if (running === mine) at("said").textContent = mine.signal.aborted ? "Stopped." : String(error);
  } finally {
    if (running === mine) {
      running = null;
      at("stop").disabled = true;
    }
  }
}

/* A document that asks for a field, with its required arguments as variables. */
function draft(operation, field, types) {
  const required = field.args.filter((one) => one.type.kind === "NON_NULL" && one.defaultValue === null);
  const declared = required.map((one) => `$${one.name}: ${typeText(one.type)}`).join(", ");
  const given = required.map((one) => `${one.name}: $${one.name}`).join(", ");
  const leaves = (name, depth) => (types.get(name).fields || []).filter((one) => !one.args.some((arg) => arg.type.kind === "NON_NULL" && arg.defaultValue === null))
    .flatMap((one) => {
      const inside = innermost(one.type);
      if (inside.kind !== "OBJECT") return [one.name];
      return ["nodes", "items"].includes(one.name) && depth < 2 ? [`${one.name} { ${leaves(inside.name, depth + 1).join(" ")} }`] : [];
    });
  const named = innermost(field.type);
  const below = named.kind === "OBJECT" ? ` { ${leaves(named.name, 0).join(" ") || "__typename"} }` : "";
  at("document").value = `${operation}${declared ? `(${declared})` : ""} {\n  ${field.name}${given ? `(${given})` : ""}${below}\n}`;
  at("variables").value = required.length ? JSON.stringify(Object.fromEntries(required.map((one) => [one.name, null])), null, 2) : "";
  at("document").focus();
}

function rows(fields) {
  return table(["name", "type", ""], fields.map((one) => make("tr", {}, make("td", {}, make("code", {}, one.name)),
    make("td", {}, make("code", {}, typeText(one.type)), one.defaultValue ? make("span", { class: "soft" }, ` = ${one.defaultValue}`) : ""),
    make("td", { class: "soft" }, ...inline(one.description || "")))));
}

function fieldEntry(group, operation, field, types) {
  return { group, id: `${operation}-${field.name}`, text: [field.name, field.description, typeText(field.type)].join(" "),
    summary: [make("span", { class: "path" }, field.name), make("span", { class: "what" }, (field.description || "").replaceAll("`", "")), make("span", { class: "badge" }, typeText(field.type))],
    body: () => {
      const use = make("button", { type: "button" }, "Put it into the document");
      use.addEventListener("click", () => draft(operation, field, types));
      return [...prose(field.description), field.args.length ? rows(field.args) : "", use].filter(Boolean);
    } };
}

function schemaEntries(schema) {
  const types = new Map(schema.types.map((type) => [type.name, type]));
  const roots = [["Queries", "query", schema.queryType], ["Mutations", "mutation", schema.mutationType], ["Subscriptions", "subscription", schema.subscriptionType]];
  const names = new Set(roots.map(([, , root]) => root && root.name));
  const others = schema.types.filter((type) => !names.has(type.name) && !type.name.startsWith("__"));
  return [
    ...roots.flatMap(([group, operation, root]) => (root ? types.get(root.name).fields.map((field) => fieldEntry(group, operation, field, types)) : [])),
    ...others.map((type) => ({ group: "Types", id: `type-${type.name}`, text: [type.name, type.description].join(" "),
      summary: [make("span", { class: "path" }, type.name), make("span", { class: "what" }, (type.description || "").replaceAll("`", "")), make("span", { class: "badge" }, type.kind.toLowerCase().replace("_", " "))],
      body: () => [...prose(type.description), rows(type.fields || type.inputFields || [])] })),
  ];
}

async function loadSchema() {
  try {
    const answer = await fetch("/graphql", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ query: SCHEMA }) });
    const body = await answer.json();
    if (body.errors) throw new Error(body.errors[0].message);
    show(schemaEntries(body.data.__schema));
  } catch (error) {
    at("content").replaceChildren(make("p", {}, String(error)));
  }
}

at("document").value = (readHistory()[0] || { text: START }).text;
at("variables").value = (readHistory()[0] || { variables: "" }).variables;
at("desk").addEventListener("submit", (event) => { event.preventDefault(); run(); });
at("desk").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); } });
at("stop").addEventListener("click", () => { if (running) running.abort(); });
at("history").addEventListener("change", (event) => {
  const one = readHistory()[event.target.value];
  if (one) [at("document").value, at("variables").value] = [one.text, one.variables];
});
showHistory();
loadSchema();
