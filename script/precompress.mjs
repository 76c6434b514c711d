// Puts a .br and a .gz beside each compressible file of a folder, so that the server compresses nothing while it serves.
// Both are as small as the formats allow; the files are unchanged, and so are their dates, when nothing changed.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const root = process.argv[2];
if (!root) throw new Error("usage: node precompress.mjs FOLDER");
const compressible = /\.(wasm|js|css|svg|html|txt|json|webmanifest)$/;

const files = readdirSync(root, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath ?? entry.path, entry.name));

/** Writes only what differs: the server's build looks at the dates. */
function write(path, content) {
  try {
    if (readFileSync(path).equals(content)) return;
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  writeFileSync(path, content);
}

const kb = (bytes) => `${(bytes / 1000).toFixed(1)} KB`;

for (const path of files.filter((f) => compressible.test(f)).sort()) {
  const raw = readFileSync(path);
  const brotli = brotliCompressSync(raw, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
      // The mode for fonts suits WebAssembly best.
      [constants.BROTLI_PARAM_MODE]: path.endsWith(".wasm") ? constants.BROTLI_MODE_FONT : constants.BROTLI_MODE_TEXT,
      [constants.BROTLI_PARAM_SIZE_HINT]: raw.length,
    },
  });
  const gzip = gzipSync(raw, { level: 9 });
  write(`${path}.br`, brotli);
  write(`${path}.gz`, gzip);
  console.error(`build: ${path}: ${kb(raw.length)}, gzip ${kb(gzip.length)}, brotli ${kb(brotli.length)}`);
}

// What a former build left of files that are gone would be served, and embedded, for ever.
for (const path of files.filter((f) => /\.(br|gz)$/.test(f))) {
  if (!files.includes(path.replace(/\.(br|gz)$/, ""))) rmSync(path);
}
