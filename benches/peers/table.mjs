// Prints what the systems answered as one table, and writes it to a file where one is named:
//   node table.mjs FOLDER [FILE]      FOLDER holds one JSON file per system and round, in the order of their names
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";

const MEASURES = [
  ["enqueue_one", "enqueue one by one, a second", "higher"],
  ["enqueue_concurrent_50", "enqueue from 50 callers, a second", "higher"],
  ["enqueue_bulk", "enqueue in bulk, a second", "higher"],
  ["drain_10", "drain with 10 slots, a second", "higher"],
  ["pickup_idle_p50_ms", "pick-up, idle, median, ms", "lower"],
  ["pickup_idle_p99_ms", "pick-up, idle, 99 %, ms", "lower"],
  ["pickup_1000_p99_ms", "pick-up, 1000 a second, 99 %, ms", "lower"],
  ["pickup_1000_offered", "  of those, enqueued a second", ""],
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
    for (const [key, , better] of MEASURES) {
      const [mine, theirs] = [system.results[key], peer.results[key]];
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
for (const system of systems) for (const note of system.notes) console.log(`note: ${label(system)}: ${note}`);

if (file) {
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, kernel: release(), node: process.version };
  writeFileSync(file, `${JSON.stringify({ machine, servers: process.env.PEERS_SERVERS, systems, ratios }, null, 2)}\n`);
}
