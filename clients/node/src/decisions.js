// From window logits to probabilities and decisions (core/decisions.py; docs/reference/bundle.md says the same in words).

const SMALLEST = 1e-300, LARGEST_ODDS = 1e6;
const ORDER = ["clear", "review", "block"];

/** Pool rows of window logits (and scores, with attention) to one row, in float32. */
export function pool(logits, scores) {
  return logits[0].map((_, column) => {
    if (!scores) return logits.reduce((most, row) => Math.max(most, row[column]), -Infinity);
    const highest = scores.reduce((most, row) => Math.max(most, row[column]), -Infinity);
    let weighted = 0, weights = 0;
    logits.forEach((row, at) => {
      const weight = Math.exp(scores[at][column] - highest);
      weighted += weight * row[column];
      weights += weight;
    });
    return Math.fround(weighted / weights);
  });
}

/** Probabilities, float32, of a text's pooled logits. `bundle` has policies, anyViolation and prevalence. */
export function probabilities(bundle, logits, windows) {
  const long = Math.log(windows);
  const odds = bundle.policies.map(({ scale, bias, length }, column) =>
    clip(scale * logits[column] + bias - length * long),
  );
  const some = bundle.anyViolation;
  const independent = some.scale * independentLogOdds(odds) + some.bias - some.length * long;
  const whole = clip(Math.max(independent, ...odds));
  const shifted = whole + shift(bundle.prevalence);
  const ratio = Math.exp(softplus(-whole) - softplus(-shifted));
  const any = sigmoid(shifted);
  return {
    policies: odds.map((each) => Math.fround(Math.min(sigmoid(each) * ratio, any))),
    any: Math.fround(any),
  };
}

const clip = (odds) => Math.min(Math.max(odds, -LARGEST_ODDS), LARGEST_ODDS);
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

function sigmoid(odds) {
  const small = Math.exp(-Math.abs(odds));
  return (odds >= 0 ? 1 : small) / (1 + small);
}

function independentLogOdds(odds) {
  const total = Math.max(odds.reduce((sum, each) => sum + softplus(each), 0), SMALLEST);
  return total + Math.log(-Math.expm1(-total));
}

function shift(prevalence) {
  if (!prevalence) return 0;
  const { stated, calibration } = prevalence;
  return Math.log(stated) - Math.log1p(-stated) - Math.log(calibration) + Math.log1p(-calibration);
}

/** The decision on each policy. */
export function decide(bundle, found) {
  const decisions = bundle.policies.map(({ review, block }, column) => {
    const probability = found.policies[column];
    if (block !== null && probability >= block) return "block";
    return probability >= review ? "review" : "clear";
  });
  const few = found.any < bundle.anyViolation.review;
  return decisions.map((decision) => (few && decision === "review" ? "clear" : decision));
}

export function strictest(decisions) {
  return decisions.reduce((most, each) => (ORDER.indexOf(each) > ORDER.indexOf(most) ? each : most), "clear");
}
