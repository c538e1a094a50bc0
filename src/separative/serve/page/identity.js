// Words for who a speaker may be.

import { percent, signed } from './dom.js';

export const title = speaker => speaker.named ? speaker.name : `Speaker ${speaker.number}`;

// One sentence about the identity of a speaker: what is known, and how surely.
export function describeIdentity(speaker, speakers) {
  const { named, name, identity } = speaker, { candidates, unknown_probability: unknown } = identity;
  const shared = other => speakers.some(one => one !== speaker && one.named && one.name === other);
  if (named === 'given') return '';
  if (!candidates.length) return '';
  const [best] = candidates;
  if (best.probability === null) {
    return identity.name && !shared(identity.name) ? `Not sure: perhaps ${best.name} (cosine ${signed(best.score, 2)}; no probabilities)` : 'Not enrolled';
  }
  const likely = candidates.reduce((a, b) => (b.probability > a.probability ? b : a));
  if (named === 'identified') {
    const own = candidates.find(candidate => candidate.name === name);
    return `Identified, ${percent(own.probability)}`;
  }
  if (likely.probability >= 0.5 && shared(likely.name)) {
    return `Resembles ${likely.name}, ${percent(likely.probability)}, who has a lane already. If the two are one person, merge them.`;
  }
  if (likely.probability >= 0.2) {
    const others = candidates.filter(candidate => candidate !== likely && candidate.probability >= 0.1);
    const rest = [...others.map(candidate => `${candidate.name} ${percent(candidate.probability)}`),
      ...(unknown >= 0.1 ? [`another person ${percent(unknown)}`] : [])].join(', ');
    return `Not sure: perhaps ${likely.name} ${percent(likely.probability)}${rest && `, ${rest}`}`;
  }
  return `Not enrolled, ${percent(unknown)}`;
}
