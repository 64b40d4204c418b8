const ORDER = ["get", "post", "put", "patch", "delete"];

function whoMay(operation) {
  const roles = (operation.security || []).flatMap((one) => one.bearer || []);
  return operation.security && operation.security.length ? roles.join(", ") || "signed in" : "anyone";
}

function curl(root, server, path, method, operation) {
  const media = Object.entries((operation.requestBody || {}).content || {})[0];
  const parts = [`curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} '${server}${path}'`];
  if (whoMay(operation) !== "anyone") parts.push("-H 'authorization: Bearer …'");
  for (const parameter of operation.parameters || [])
    if (parameter.in === "header" && (parameter.required || /Required/.test(parameter.description || ""))) parts.push(`-H '${parameter.name}: …'`);
  if (media) parts.push(`-H 'content-type: ${media[0]}'`, `-d '${media[0].includes("json") ? JSON.stringify(example(root, media[1].schema)).replaceAll("'", "'\\''") : "…"}'`);
  return parts.join(" \\\n  ");
}

function example(root, schema, depth = 0) {
  const whole = resolve(root, schema) || {};
  if (whole.examples && whole.examples.length) return whole.examples[0];
  if (whole.example !== undefined) return whole.example;
  if (whole.default !== undefined && whole.default !== null) return whole.default;
  if (whole.const !== undefined) return whole.const;
  if (whole.enum) return whole.enum[0];
  if (whole.anyOf || whole.oneOf) return example(root, (whole.anyOf || whole.oneOf)[0], depth);
  if (depth > 4) return null;
  if (whole.type === "array") return [example(root, whole.items, depth + 1)];
  if (whole.type === "object" || whole.properties) {
    const required = whole.required || [];
    return Object.fromEntries(Object.entries(whole.properties || {}).filter(([name]) => required.includes(name) || !required.length)
      .map(([name, field]) => [name, example(root, field, depth + 1)]));
  }
  return { integer: whole.minimum || 1, number: 1, boolean: true, null: null }[whole.type] ?? "…";
}

function parameterRow(root, parameter) {
  return make("tr", {}, make("td", {}, make("code", {}, parameter.name), parameter.required ? "" : make("span", { class: "soft" }, " optional")),
    make("td", {}, parameter.in), make("td", {}, typeName(root, parameter.schema)),
    make("td", { class: "soft" }, ...inline([parameter.description, bounds(parameter.schema || {})].filter(Boolean).join("; "))));
}

function operationBody(root, path, method, operation) {
  const parts = [...prose(operation.description || operation.summary)];
  parts.push(make("pre", {}, curl(root, location.origin, path, method, operation)));
  if ((operation.parameters || []).length)
    parts.push(make("h4", {}, "Parameters"), table(["name", "in", "type", ""], operation.parameters.map((one) => parameterRow(root, one))));
  for (const [type, media] of Object.entries((operation.requestBody || {}).content || {}))
    parts.push(make("h4", {}, `Body: ${type}`), schemaTable(root, media.schema));
  const responses = Object.entries(operation.responses || {}).sort();
  const good = responses.filter(([status]) => status < "300");
  for (const [status, response] of good) {
    parts.push(make("h4", {}, `Answer: ${status} ${response.description}`));
    for (const [type, media] of Object.entries(response.content || {}))
      parts.push(type.includes("json") && media.schema ? schemaTable(root, media.schema) : make("p", {}, make("code", {}, type)));
  }
  parts.push(make("h4", {}, "Problems"), table(["status", ""], responses.filter(([status]) => status >= "300").map(([status, response]) =>
    make("tr", {}, make("td", {}, status), make("td", { class: "soft" }, ...inline(response.description))))));
  return parts;
}

load("/openapi.json", (root) => Object.entries(root.paths).flatMap(([path, item]) => Object.entries(item)
  .sort(([one], [other]) => ORDER.indexOf(one) - ORDER.indexOf(other)).map(([method, operation]) => {
    const who = whoMay(operation);
    const what = operation.description || operation.summary || "";
    return { group: operation.tags[0], id: operation.operationId, text: [method, path, what, who, operation.operationId].join(" "),
      summary: [make("span", { class: `method ${method}` }, method), make("span", { class: "path" }, path),
        make("span", { class: "what" }, what.split("\n")[0].replaceAll("`", "")), make("span", { class: "badge" }, who)],
      body: () => operationBody(root, path, method, operation) };
  })).sort((one, other) => root.tags.findIndex((tag) => tag.name === one.group) - root.tags.findIndex((tag) => tag.name === other.group)));
