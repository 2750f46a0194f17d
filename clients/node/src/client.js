// Client of the scoring service (`merchantguard serve`). Needs nothing but Node's own fetch.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const LONGEST_WAIT_MS = 10_000, FIRST_WAIT_MS = 100;
// Errors of single items that may pass: the service had no room for part of a list.
const BUSY = new Set(["queue_full", "draining", "log_full"]);

/** The service's refusal, or none of its answers in time. `status` is 0 where there was no answer. */
export class ServiceError extends Error {
  name = "ServiceError";

  constructor(message, { status = 0, type = "unreachable", requestId = null, cause } = {}) {
    super(message, { cause });
    Object.assign(this, { status, type, requestId });
  }
}

export class Client {
  /**
   * @param {string} url of the service, such as http://localhost:8080
   * @param {{apiKey?: string, deadlineMs?: number, retries?: number, batch?: number}} options `deadlineMs` bounds a
   *   request with all its retries and is told to the service; `retries` after 429, 503 and a refused connection;
   *   `batch` items go in one request.
   */
  constructor(url, { apiKey, deadlineMs = 30_000, retries = 5, batch = 100 } = {}) {
    this.url = url.replace(/\/+$/, "");
    Object.assign(this, { deadlineMs, retries, batch });
    this.headers = { "content-type": "application/json", ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}) };
  }

  /** Assess one text or record. @throws {ServiceError} if it cannot be assessed */
  async assess(item, options = {}) {
    const [result] = await this.assessMany([item], options);
    if (result.error) throw new ServiceError(result.error.message, { status: 422, type: result.error.type });
    return result;
  }

  /** Assess texts and records, in their order; each has its own result, or `error` where it is wrong. */
  async assessMany(items, options = {}) {
    const results = [];
    for (let start = 0; start < items.length; start += this.batch) {
      const found = await this.#patiently(items.slice(start, start + this.batch), options);
      results.push(...found.map((result, at) => ({ ...result, index: start + at })));
    }
    return results;
  }

  /** The bundle in use, its policies and thresholds. */
  async model() {
    return this.#request("GET", "/v1/model", undefined, {});
  }

  /** Assess a batch, and again the items that the service had no room for. */
  async #patiently(items, { deadlineMs = this.deadlineMs, ...options }) {
    const end = Date.now() + deadlineMs;
    const results = await this.#batch(items, { ...options, deadlineMs });
    for (let attempt = 0; attempt < this.retries; attempt++) {
      const busy = results.flatMap((result, row) => (BUSY.has(result.error?.type) ? [row] : []));
      const wait = pause(attempt);
      if (!busy.length || Date.now() + wait >= end) break;
      await sleep(wait);
      const again = await this.#batch(busy.map((row) => items[row]), { ...options, deadlineMs: end - Date.now() });
      busy.forEach((row, at) => (results[row] = again[at]));
    }
    return results;
  }

  /** A request where all items are wrong is refused as a whole: here too each item has its error. */
  async #batch(input, options) {
    try {
      return (await this.#request("POST", "/v1/assess", { input }, options)).results;
    } catch (error) {
      if (error.status !== 422 || input.length === 1) throw error;
      const results = [];
      for (const item of input) results.push(await this.#alone(item, options));
      return results;
    }
  }

  async #alone(item, options) {
    try {
      return (await this.#request("POST", "/v1/assess", { input: [item] }, options)).results[0];
    } catch (error) {
      if (error.status !== 422) throw error;
      return { error: { type: error.type, message: error.message } };
    }
  }

  async #request(method, path, body, { deadlineMs = this.deadlineMs, requestId = randomUUID() }) {
    const end = Date.now() + deadlineMs;
    for (let attempt = 0; ; attempt++) {
      const failed = await this.#attempt(method, path, body, end, requestId).catch((error) => error);
      if (!(failed instanceof Error)) return failed;
      const wait = failed.retryAfterMs ?? pause(attempt);
      if (!failed.mayRetry || attempt >= this.retries || Date.now() + wait >= end) throw failed;
      await sleep(wait);
    }
  }

  async #attempt(method, path, body, end, requestId) {
    const left = Math.max(1, end - Date.now());
    const headers = { ...this.headers, "x-request-id": requestId, "x-deadline-ms": String(left) };
    let response, text;
    try {
      const signal = AbortSignal.timeout(left);
      response = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body), signal });
      text = await response.text();
    } catch (cause) {
      const late = cause.name === "TimeoutError";
      const error = new ServiceError(late ? `no answer within the deadline` : `${this.url}: ${cause.cause?.code ?? cause.message}`, {
        type: late ? "deadline" : "unreachable", requestId, cause,
      });
      error.mayRetry = cause.cause?.code === "ECONNREFUSED"; // nothing was sent
      throw error;
    }
    return answer(response, text, requestId);
  }
}

/** Milliseconds to wait, spread so that refused callers do not come back together. */
const pause = (attempt) => Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempt) * (0.5 + Math.random() / 2);

function answer(response, text, requestId) {
  let content = null;
  try {
    content = JSON.parse(text);
  } catch (cause) {
    // A proxy's page: its status says what happened, unless it claims success.
    if (response.ok) throw new ServiceError("the answer is not JSON", { status: response.status, type: "protocol", requestId, cause });
  }
  if (response.ok) return content;
  const { type = "refused", message = `status ${response.status}` } = content?.error ?? {};
  const error = new ServiceError(message, { status: response.status, type, requestId });
  error.mayRetry = response.status === 429 || response.status === 503;
  const seconds = Number(response.headers.get("retry-after") ?? NaN);
  if (Number.isFinite(seconds)) error.retryAfterMs = seconds * 1000;
  throw error;
}
