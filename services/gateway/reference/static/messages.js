const KINDS = { topic: "Topics (Kafka)", queue: "Queues (RabbitMQ)", exchange: "Exchanges (RabbitMQ)" };

function channelBody(root, channel) {
  const parts = [...prose(channel.description)];
  const binding = Object.values(channel.bindings || {})[0] || {};
  if (binding.partitions)
    parts.push(make("p", { class: "soft" }, `${binding.partitions} partitions, kept ${Math.round(binding.topicConfiguration["retention.ms"] / 86400000)} days`));
  for (const name of Object.keys(channel.messages)) {
    const message = root.components.messages[name];
    parts.push(make("h4", { class: "name" }, name), ...prose(message.summary), schemaTable(root, { $ref: `#/components/schemas/${name}` }));
  }
  parts.push(make("h4", {}, "Envelope"), schemaTable(root, { $ref: "#/components/schemas/Envelope" }));
  return parts;
}

load("/asyncapi.json", (root) => Object.entries(root.channels).map(([id, channel]) => {
  const [kind, owner] = channel.tags.map((tag) => tag.name);
  const action = kind === "queue" ? "receive" : "send";
  return { group: KINDS[kind], id, text: [id, channel.description, ...Object.keys(channel.messages)].join(" "),
    summary: [make("span", { class: `method ${action}` }, kind), make("span", { class: "path" }, channel.address),
      make("span", { class: "what" }, Object.keys(channel.messages).join(", ")), make("span", { class: "badge" }, owner)],
    body: () => channelBody(root, channel) };
}).sort((one, other) => Object.values(KINDS).indexOf(one.group) - Object.values(KINDS).indexOf(other.group)));
