// Prints what the systems answered as one table, and writes it to a file where one is named:
//   node table.mjs FOLDER [FILE]      FOLDER holds one JSON file per system and round, in the order of their names
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";

// The name of a figure, in words, which way is better, and where it differs the peers' figure that it is divided by: over
// HTTP as users in other languages enqueue, beside what peers in the caller's own process take.
const MEASURES = [
  ["enqueue_one", "enqueue one by one, a second", "higher"],
  ["enqueue_concurrent_50", "enqueue from 50 callers, a second", "higher"],
  ["enqueue_http_50", "  the same over HTTP, a second", "higher", "enqueue_concurrent_50"],
  ["enqueue_bulk", "enqueue in bulk, a second", "higher"],
  ["drain_10", "drain with 10 slots, a second", "higher"],
  ["pickup_idle_p50_ms", "pick-up, idle, median, ms", "lower"],
  ["pickup_idle_p99_ms", "pick-up, idle, 99 %, ms", "lower"],
  ["pickup_1000_p99_ms", "pick-up, 1000 a second, 99 %, ms", "lower"],
  ["pickup_1000_offered", "  of those, enqueued a second", ""],
];

// What Windlass is to reach beside BullMQ, on each arrangement: so many times its figure, at least or at most. And how much of
// what its own statements can do without it, in percent.
const RIVAL = "bullmq";
const AIMS = [
  ["drain_10", "drain with 10 slots", "at least", { sqlite: 1.5, "postgres+redis": 1 }],
  ["enqueue_bulk", "enqueue in bulk", "at least", { sqlite: 1, postgres: 1, "postgres+redis": 1 }],
  ["enqueue_http_50", "enqueue over HTTP from 50 callers", "at least", { sqlite: 1, postgres: 1, "postgres+redis": 1 }],
  ["pickup_idle_p99_ms", "pick-up, idle, 99 %", "at most", { sqlite: 1, postgres: 1, "postgres+redis": 1 }],
];
const RAW_AIM = 70;
const SHARES = [
  ["drain_10_of_raw_percent", "drain with 10 slots"],
  ["enqueue_bulk_of_raw_percent", "enqueue in bulk"],
];

const [folder, file] = process.argv.slice(2);
const answers = readdirSync(folder)
  .filter((name) => name.endsWith(".json"))
  .sort()
  .map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")));
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** The median of each figure over all rounds; where they are even in number, of the middle two the one on the left. */
function merged(rounds) {
  const results = {};
  for (const key of new Set(rounds.flatMap((round) => Object.keys(round.results)))) {
    const values = rounds.map((round) => round.results[key]).filter(known).sort((a, b) => a - b);
    results[key] = values.length > 0 ? values[Math.floor((values.length - 1) / 2)] : rounds[0].results[key];
  }
  const notes = [...new Set(rounds.flatMap((round) => round.notes ?? []))];
  return { ...rounds[0], results, notes, rounds: rounds.map((round) => round.results) };
}

const byName = new Map();
for (const answer of answers) {
  const name = answer.peer ?? `windlass ${answer.arrangement}`;
  byName.set(name, [...(byName.get(name) ?? []), answer]);
}
const systems = [...byName.values()].map(merged);
const ours = systems.filter((system) => system.arrangement);
const peers = systems.filter((system) => system.peer);

const plain = (value) =>
  known(value) ? value.toLocaleString("en-GB", { maximumFractionDigits: value < 100 ? 2 : 0 }) : value === null ? "failed" : "–";

function print(head, rows) {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column].length)));
  const line = (cells) => cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join("  ");
  console.log(line(head));
  console.log(widths.map((width) => "-".repeat(width)).join("  "));
  for (const row of rows) console.log(line(row));
}

const label = (system) => (system.peer ? `${system.peer} ${system.version}` : `windlass, ${system.arrangement}`);
print(
  ["measure", "better", ...[...ours, ...peers].map(label)],
  MEASURES.map(([key, words, better]) => [words, better, ...[...ours, ...peers].map((system) => plain(system.results[key]))]),
);

const ratios = {};
for (const system of ours) {
  const of = (ratios[system.arrangement] = {});
  for (const peer of peers) {
    of[peer.peer] = {};
    for (const [key, , better, theirKey = key] of MEASURES) {
      const [mine, theirs] = [system.results[key], peer.results[theirKey]];
      if (better && known(mine) && known(theirs) && theirs > 0) of[peer.peer][key] = Math.round((mine / theirs) * 1000) / 1000;
    }
  }
  if (peers.length === 0) continue;
  console.log(`\nwindlass, ${system.arrangement}, divided by the peer:`);
  print(
    ["measure", "better", ...peers.map(label)],
    MEASURES.filter(([, , better]) => better).map(([key, words, better]) => [
      words,
      better === "higher" ? "over 1" : "under 1",
      ...peers.map((peer) => (known(of[peer.peer][key]) ? `${of[peer.peer][key].toFixed(2)}x` : "–")),
    ]),
  );
}

const aims = [];
const judged = (system, aim, words, wanted, value, reached) => {
  const verdict = value === null ? "not measured" : reached === null ? "no aim" : reached ? "reached" : "NOT reached";
  aims.push({ arrangement: system.arrangement, aim, value, wanted, verdict });
  return [`${words}, ${system.arrangement}`, value === null ? "–" : plain(value), wanted, verdict];
};
const rows = [];
if (peers.some((peer) => peer.peer === RIVAL)) {
  for (const [key, words, bound, wanted] of AIMS) {
    for (const system of ours) {
      const value = ratios[system.arrangement][RIVAL][key] ?? null;
      const aim = wanted[system.arrangement];
      const reached = aim === undefined ? null : bound === "at least" ? value >= aim : value <= aim;
      rows.push(judged(system, key, `${words}, times ${RIVAL}'s`, aim === undefined ? "–" : `${bound} ${aim}`, value, reached));
    }
  }
}
for (const [key, words] of SHARES) {
  for (const system of ours) {
    const value = known(system.results[key]) ? system.results[key] : null;
    rows.push(judged(system, key, `${words}, % of the raw store`, `at least ${RAW_AIM}`, value, value >= RAW_AIM));
  }
}
if (rows.length > 0) {
  console.log("\naims:");
  print(["figure", "is", "aim", ""], rows);
}
for (const system of systems) for (const note of system.notes) console.log(`note: ${label(system)}: ${note}`);

if (file) {
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, kernel: release(), node: process.version };
  writeFileSync(file, `${JSON.stringify({ machine, servers: process.env.PEERS_SERVERS, systems, ratios, aims }, null, 2)}\n`);
}
