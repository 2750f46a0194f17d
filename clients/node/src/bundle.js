// Reading a bundle: all of it is checked before anything in it is used (docs/reference/bundle.md).

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

import { CLEANING_VERSION } from "./characters.js";
import { canonical } from "./canonical.js";

const FORMAT_VERSION = 1, DOCUMENT_BYTES = 64 * 2 ** 20;
const PLAIN_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;

/** A bundle that cannot be used; the message names the file or field. */
export class BundleError extends Error {
  name = "BundleError";
}

/** Read and check the bundle in a folder, for one of its variants that ONNX Runtime runs. */
export async function readBundle(folder, variantName = "plain") {
  const path = join(folder, "bundle.json");
  const source = await readDocument(path);
  const document = parse(path, source);
  const need = (holds, fault) => {
    if (!holds) throw new BundleError(`${path}: ${fault}`);
  };
  checkHeader(document, need);
  const digest = createHash("sha256").update(canonical(source, "digest"), "ascii").digest("hex");
  need((document.digest ?? digest) === digest, "digest is not that of the content, which was edited or damaged");
  await checkFiles(folder, document, need);
  return bundleOf(folder, document, digest, chooseVariant(document, variantName, need), need);
}

async function readDocument(path) {
  try {
    if ((await stat(path)).size > DOCUMENT_BYTES) throw new BundleError(`${path}: larger than 64 MiB`);
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof BundleError) throw error;
    throw new BundleError(`${path}: cannot be read (${error.code ?? error.message})`, { cause: error });
  }
}

function parse(path, source) {
  try {
    return JSON.parse(source);
  } catch (error) {
    throw new BundleError(`${path}: not JSON (${error.message})`, { cause: error });
  }
}

function checkHeader(document, need) {
  need(document !== null && typeof document === "object" && !Array.isArray(document), "must be an object");
  need(document.format_version === FORMAT_VERSION, `format_version is ${document.format_version}; this reads ${FORMAT_VERSION}`);
  need(
    document.cleaning_version === CLEANING_VERSION,
    `cleaning_version is ${document.cleaning_version}; this cleans text by version ${CLEANING_VERSION}`,
  );
  need(["max", "attention"].includes(document.pooling), `pooling is ${document.pooling}; known: max, attention`);
  for (const key of ["window_tokens", "stride_tokens", "max_windows"]) {
    need(Number.isInteger(document[key]), `${key} must be a whole number`);
  }
  need(document.stride_tokens >= 0 && document.stride_tokens < document.window_tokens - 2, "stride_tokens does not fit window_tokens");
  need(document.max_windows >= 1, "max_windows must be at least 1");
  for (const key of ["name", "version"]) need(typeof document[key] === "string" && document[key].trim(), `${key} must be a text`);
}

async function checkFiles(folder, document, need) {
  need(document.files !== null && typeof document.files === "object", "files must map each file's name to its SHA-256");
  for (const name of ["model.onnx", "tokenizer.json"]) need(Object.hasOwn(document.files, name), `files: ${name} is not listed`);
  for (const [name, expected] of Object.entries(document.files)) {
    // Plain names only: a bundle may come from anywhere and must not point out of its folder.
    need(PLAIN_NAME.test(name) && name !== "bundle.json", `files: ${JSON.stringify(name)} is not a plain name`);
    const found = await sha256(join(folder, name));
    if (found !== expected) {
      throw new BundleError(`${join(folder, name)}: SHA-256 is not the one in bundle.json; copy the bundle again`);
    }
  }
}

async function sha256(path) {
  const hash = createHash("sha256");
  try {
    if (!(await stat(path)).isFile()) throw new Error("not a file");
    await pipeline(createReadStream(path), hash);
  } catch (error) {
    throw new BundleError(`${path}: cannot be read (${error.code ?? error.message})`, { cause: error });
  }
  return hash.digest("hex");
}

function chooseVariant(document, name, need) {
  if (name === "plain") return { name, graph: "model.onnx" };
  const found = (document.variants ?? []).find((variant) => variant.name === name);
  need(found !== undefined, `no variant ${JSON.stringify(name)}`);
  need(found.engine === "onnxruntime", `variant ${name} runs on ${found.engine}; this runs onnxruntime`);
  need(found.policies || found.precision === "fp32", `variant ${name}: policies is missing`);
  need(Object.hasOwn(document.files, found.graph), `variant ${name} runs ${found.graph}, which files does not list`);
  return found;
}

function bundleOf(folder, document, digest, variant, need) {
  const own = variant.policies ? variant : document;
  const policies = readPolicies(own.policies, need);
  const known = readPolicies(document.policies, need).map((policy) => policy.id);
  need(policies.map((policy) => policy.id).join() === known.join(), `variant ${variant.name}: other policies`);
  return {
    folder,
    name: document.name,
    version: document.version,
    label: `${document.name}@${document.version}`,
    digest,
    variant: variant.name,
    graph: variant.graph,
    windowTokens: document.window_tokens,
    strideTokens: document.stride_tokens,
    maxWindows: document.max_windows,
    pooling: document.pooling,
    languages: document.languages ?? [],
    policies,
    anyViolation: readAny(variant.any_violation ?? document.any_violation, need),
    prevalence: readPrevalence(own.prevalence, need),
  };
}

function readPolicies(listed, need) {
  need(Array.isArray(listed) && listed.length > 0, "policies is empty");
  const ids = listed.map((policy) => policy.id);
  need(new Set(ids).size === ids.length, "policies names one twice");
  return listed.map((policy) => {
    const { calibration, thresholds } = policy;
    const { scale, bias, length } = readCalibration(calibration, `policy ${policy.id}: calibration`, need);
    const { review, block } = thresholds ?? {};
    need(isShare(review) && (block === null || (isShare(block) && block >= review)), `policy ${policy.id}: thresholds`);
    const scope = thresholds.block_certificate?.scope ?? "policy";
    need(["policy", "pooled"].includes(scope), `policy ${policy.id}: scope is ${scope}`);
    return { id: policy.id, title: policy.title, severity: policy.severity, scale, bias, length, review, block, scope };
  });
}

function readCalibration(given, place, need) {
  const { scale, bias, length = 0 } = given ?? {};
  need(Number.isFinite(scale) && scale > 0, `${place}: scale must be positive`);
  need(Number.isFinite(bias), `${place}: bias must be a finite number`);
  need(Number.isFinite(length) && length >= 0, `${place}: length must not be negative`);
  return { scale, bias, length };
}

function readAny(given, need) {
  if (given === undefined) return { scale: 1, bias: 0, length: 0, review: 0 };
  need(isShare(given.review), "any_violation: review must lie between 0 and 1");
  const silent = ["scale", "bias", "length"].every((key) => given[key] === undefined);
  const calibration = silent ? { scale: 1, bias: 0, length: 0 } : readCalibration(given, "any_violation", need);
  return { ...calibration, review: given.review };
}

function readPrevalence(given, need) {
  if (given === undefined || given === null) return null;
  for (const key of ["stated", "calibration"]) need(given[key] > 0 && given[key] < 1, `prevalence: ${key} must lie inside (0, 1)`);
  return { stated: given.stated, calibration: given.calibration };
}

const isShare = (value) => typeof value === "number" && value >= 0 && value <= 1;
