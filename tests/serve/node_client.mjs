// OpenAI's client for Node against the server of $URL; prints what it found as JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.URL}/v1`, apiKey: "none", maxRetries: 0 });
const picture = { type: "image_url", image_url: { url: process.env.PICTURE } };
const messages = [{ role: "user", content: [picture, { type: "text", text: "What is this?" }] }];
const asked = { model: "tiny", messages, max_tokens: 8, seed: 1 };

const whole = await client.chat.completions.create(asked);
const options = { stream: true, stream_options: { include_usage: true } };
let said = "", tokens = 0;
for await (const chunk of await client.chat.completions.create({ ...asked, ...options })) {
  said += chunk.choices[0]?.delta?.content ?? "";
  tokens = chunk.usage?.completion_tokens ?? tokens;
}
const events = [];
const stream = client.responses.stream({ model: "tiny", input: "Hi", max_output_tokens: 3 });
for await (const event of stream) events.push(event.type);
const final = await stream.finalResponse();
const refused = await client.chat.completions.create({ ...asked, n: 99 }).catch((error) => error);
const models = (await client.models.list()).data.map((model) => model.id);
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, said, tokens, total: whole.usage.completion_tokens,
  events, output: final.output_text, refused: [refused.constructor.name, refused.code, refused.param],
  models, request: Boolean(whole._request_id),
}));
