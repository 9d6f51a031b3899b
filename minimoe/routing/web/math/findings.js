// What a trace shows at first sight, beside what chance would show.
//
//   domainPairs(data) -> [[a, b], ...]            the pairs of domains with enough documents and tokens to compare
//   differingExperts(data, a, b, deals, seed) -> {a, b, many, dealt: [...]}
//                                                 experts of all layers with q <= 5 % of "no difference", and as many after dealing the
//                                                 domains to the documents at random, once for each deal
//   worthAVisit(data, most) -> [{l, e, d, share, rest, q}]   experts that one domain uses more than all others, the strongest first
//   sharedByNeighbours(data) -> {neighbours, any, pairs}   mean number of experts that two neighbouring tokens share, over all layers;
//                                                 that of any two tokens of the trace, and the number of neighbouring pairs

import { documentTable, shareDifference } from "./domains.js";
import { MINIMUM } from "./intervals.js";
import { randomGenerator, shuffleInPlace } from "./random.js";

const LEVEL = 0.05;

/** Pairs of domains that can be compared: with 20 documents and 512 tokens each. */
export function domainPairs({ T, domains, documents, header }) {
  const D = header.domains.length;
  const seen = Array.from({ length: D }, () => ({ documents: new Set(), tokens: 0 }));
  for (let t = 0; t < T; t++) {
    if (domains[t] < 0 || documents[t] < 0) continue;
    seen[domains[t]].documents.add(documents[t]);
    seen[domains[t]].tokens++;
  }
  const enough = seen.flatMap((one, d) => (one.documents.size >= MINIMUM.documents && one.tokens >= MINIMUM.tokens ? [d] : []));
  return enough.flatMap((a, i) => enough.slice(i + 1).map((b) => [a, b]));
}

/** How many experts two domains use differently, and how many after each of `deals` random deals of the labels. */
export function differingExperts(data, a, b, deals = 0, seed = 0) {
  const { L, T, K, E, blocks, documents, domains } = data;
  const table = documentTable(blocks, T, K, E, documents, domains, a, b);
  const many = (q) => q.reduce((count, value) => count + (value <= LEVEL ? 1 : 0), 0);
  const { q } = shareDifference(table, L * E);
  const random = randomGenerator(seed);
  const dealt = Array.from({ length: deals }, () => many(shareDifference({ ...table, first: shuffleInPlace([...table.first], random) }, L * E).q));
  return { a, b, many: many(q), dealt };
}

/**
 * For every domain, the experts that it uses more often than the other domains do together, with q <= 5 %; at most three of a domain,
 * ordered by how many times as often.
 */
export function worthAVisit(data, most = 8) {
  const { L, T, K, E, blocks, documents, domains } = data;
  const able = new Set(domainPairs(data).flat());
  const fold = ({ share, rest }) => share / (rest + (0.1 * K) / E); // a tenth of uniform routing: no division by zero
  const found = [...able].flatMap((d) => {
    const labels = Int8Array.from(domains, (own) => (own === d ? 0 : own < 0 ? -1 : 1));
    const { a, b, q } = shareDifference(documentTable(blocks, T, K, E, documents, labels, 0, 1), L * E);
    const rows = Array.from(q.keys(), (at) => ({ l: Math.floor(at / E), e: at % E, d, share: a[at], rest: b[at], q: q[at] }));
    return rows.filter((row) => row.q <= LEVEL && row.share > row.rest).sort((one, other) => fold(other) - fold(one)).slice(0, 3);
  });
  return found.sort((one, other) => fold(other) - fold(one)).slice(0, most);
}

/** Neighbours are tokens at places p and p + 1 of one sequence. */
export function sharedByNeighbours({ L, T, K, E, blocks, sequence, position }) {
  let shared = 0;
  let pairs = 0;
  let any = 0;
  const own = new Int32Array(E).fill(-1);
  blocks.forEach((block) => {
    const counts = new Int32Array(E);
    for (let t = 0; t < T; t++) {
      const follows = t > 0 && sequence(t) === sequence(t - 1) && position(t) === position(t - 1) + 1;
      pairs += follows ? 1 : 0;
      for (let i = t * K, end = i + K; i < end; i++) {
        if (follows && own[block[i]] === t - 1) shared++;
        counts[block[i]]++;
      }
      for (let i = t * K, end = i + K; i < end; i++) own[block[i]] = t;
    }
    own.fill(-1);
    for (const count of counts) any += (count * (count - 1)) / (T * (T - 1));
  });
  return { neighbours: shared / pairs, any: any / L, pairs: pairs / L };
}
