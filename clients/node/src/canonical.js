// JSON in the form that the digest of a bundle is taken over: keys sorted by code point, no spaces, ASCII.
//
// Numbers keep the spelling of the file, which is Python's: JSON.parse would turn 1.0 into 1.

const TOKEN = /[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s{}[\]:,"]+)/y;

/** The canonical text of a JSON object, without one of its keys. The source must be valid JSON. */
export function canonical(source, leftOut) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(source); match !== null; match = TOKEN.exec(source)) tokens.push(match[1]);
  return write(tokens.reverse(), leftOut);
}

/** The value at the end of `rest`, whose tokens stand in reverse order. */
function write(rest, leftOut) {
  const token = rest.pop();
  if (token === "{") return writeObject(rest, leftOut);
  if (token === "[") {
    const items = [];
    while (rest.at(-1) !== "]") {
      items.push(write(rest));
      if (rest.at(-1) === ",") rest.pop();
    }
    rest.pop();
    return `[${items.join(",")}]`;
  }
  return token.startsWith('"') ? ascii(JSON.parse(token)) : token;
}

function writeObject(rest, leftOut) {
  const values = new Map();
  while (rest.at(-1) !== "}") {
    const key = JSON.parse(rest.pop());
    rest.pop(); // the colon
    values.set(key, write(rest));
    if (rest.at(-1) === ",") rest.pop();
  }
  rest.pop();
  values.delete(leftOut);
  const keys = [...values.keys()].sort(byCodePoints);
  return `{${keys.map((key) => `${ascii(key)}:${values.get(key)}`).join(",")}}`;
}

function byCodePoints(a, b) {
  const left = [...a], right = [...b];
  for (let at = 0; at < Math.min(left.length, right.length); at++) {
    const difference = left[at].codePointAt(0) - right[at].codePointAt(0);
    if (difference) return difference;
  }
  return left.length - right.length;
}

const ESCAPES = { '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b" };

function ascii(text) {
  const escaped = text.replace(/["\\]|[^ -~]/g, (unit) => ESCAPES[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `"${escaped}"`;
}
