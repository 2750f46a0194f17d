// Assesses the texts and records on standard input, one JSON value a line, and prints a result a line.
//
//   node example.js http://localhost:8080 [DEADLINE_MS] < items.jsonl

import { createInterface } from "node:readline";

import { Client } from "./src/client.js";

const [url, deadlineMs = "30000"] = process.argv.slice(2);
const client = new Client(url, { apiKey: process.env.MERCHANTGUARD_KEY, deadlineMs: Number(deadlineMs), batch: 8 });
const items = [];
for await (const line of createInterface({ input: process.stdin })) if (line) items.push(JSON.parse(line));
try {
  for (const result of await client.assessMany(items)) console.log(JSON.stringify(result));
} catch (error) {
  if (error.name !== "ServiceError") throw error;
  console.error(`${error.status} ${error.type}: ${error.message}`);
  process.exitCode = 1;
}
