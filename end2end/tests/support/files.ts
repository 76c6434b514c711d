// Files that the tests make and read.
import { deflateRawSync } from "node:zlib";

export const header = "id,camera_id,occurred_at,risk_level,label,summary,reviewed,metadata";

/** One row of a table of events. */
export function row(id: string, over: Partial<Record<"camera" | "at" | "risk" | "label", string>> = {}): string {
  const { camera = "cam-01", at = "2026-03-01T10:00:00Z", risk = "low", label = "vehicle" } = over;
  return `${id},${camera},${at},${risk},${label},"A van, parked",false,`;
}

/** Reads CSV with quoted cells; answers with the rows, the header first. */
export function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let cells: string[] = [];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const c = text[i];
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[i + 1] === '"') {
        cell += '"';
        i += 1;
      } else quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === ",") {
      cells.push(cell);
      cell = "";
    } else if (c === "\n") {
      cells.push(cell);
      rows.push(cells);
      cells = [];
      cell = "";
    } else if (c !== "\r") cell += c;
  }
  if (cell !== "" || cells.length > 0) rows.push([...cells, cell]);
  return rows;
}

/** A ZIP with one entry whose checksum is wrong. */
export function brokenZip(): Buffer {
  const name = Buffer.from("events.csv");
  const raw = Buffer.from(`${header}\n${row("a")}\n`);
  const data = deflateRawSync(raw);
  const common = Buffer.alloc(26);
  common.writeUInt16LE(20, 0);
  common.writeUInt16LE(8, 4);
  common.writeUInt32LE(0xdeadbeef, 10);
  common.writeUInt32LE(data.length, 14);
  common.writeUInt32LE(raw.length, 18);
  common.writeUInt16LE(name.length, 22);
  const local = Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), common, name, data]);
  const central = Buffer.concat([
    Buffer.from("PK\x01\x02\x14\x00", "latin1"),
    common,
    Buffer.alloc(14),
    name,
  ]);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", 0, "latin1");
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(local.length, 16);
  return Buffer.concat([local, central, end]);
}
