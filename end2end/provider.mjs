// A real OpenID provider for the tests: oidc-provider with people who are set by HTTP and a sign-in without a page.
//
//   node provider.mjs [RS256|ES256] [KEY CERTIFICATE]
//
// Speaks TLS when it is given the files of a key and a certificate. Prints its issuer and goes on until its standard input
// ends. Beside what a provider has:
//   PUT  /people/NAME    what is known of NAME, as JSON claims: email, email_verified, name, groups
//   PUT  /twist          what is wrong with the ID tokens from now on, as JSON: null, or { "claims": { … }, "key": "other" | "none" | "shared" }
//   GET  /login/UID      a form that asks who it is
//   POST /login/UID      NAME in the form's field "account" signs in; "deny" as NAME refuses
import { createHmac, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { Provider } from "oidc-provider";

const [algorithm = "RS256", keyFile, certificateFile] = process.argv.slice(2);
if (!["RS256", "ES256"].includes(algorithm)) throw new Error(`"${algorithm}" is not RS256 or ES256`);

const makeKey = () =>
  algorithm === "ES256"
    ? generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey
    : generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
const [own, other] = [makeKey(), makeKey()];
const kid = randomUUID();

const people = new Map();
let twist = null;

/** The ID token with other claims, or signed otherwise. */
function twisted(token) {
  const [head, body] = token.split(".").map((part) => part && Buffer.from(part, "base64url").toString());
  const header = JSON.parse(head);
  if (twist.key === "none") header.alg = "none";
  if (twist.key === "shared") header.alg = "HS256";
  const claims = { ...JSON.parse(body), ...twist.claims };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part(header)}.${part(claims)}`;
  if (twist.key === "none") return `${signed}.`;
  if (twist.key === "shared") return `${signed}.${createHmac("sha256", "not a secret").update(signed).digest("base64url")}`;
  const key = twist.key === "other" ? other : own;
  const signature = sign("sha256", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

const server = keyFile
  ? createTlsServer({ key: readFileSync(keyFile), cert: readFileSync(certificateFile) })
  : createServer();
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `${keyFile ? "https" : "http"}://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "windlass",
      client_secret: "a secret of 32 characters & more",
      // Native, so that any port of this machine will do.
      application_type: "native",
      redirect_uris: ["http://127.0.0.1/session/oidc/callback"],
      response_types: ["code"],
      grant_types: ["authorization_code"],
      id_token_signed_response_alg: algorithm,
      token_endpoint_auth_method: "client_secret_basic",
    },
  ],
  jwks: { keys: [{ ...own.export({ format: "jwk" }), kid, use: "sig", alg: algorithm }] },
  cookies: { keys: [randomUUID()] },
  features: { devInteractions: { enabled: false } },
  scopes: ["openid", "email", "profile", "groups"],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
  pkce: { required: () => true },
  interactions: { url: (_, interaction) => `/login/${interaction.uid}` },
  findAccount: (_, id) => {
    if (!people.has(id)) return undefined;
    return { accountId: id, claims: () => ({ sub: id, ...people.get(id) }) };
  },
  // Nobody is asked whether the client may know who they are.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId,
      accountId: ctx.oidc.session.accountId,
    });
    grant.addOIDCScope("openid email profile groups");
    await grant.save();
    return grant;
  },
});
provider.use(async (ctx, next) => {
  await next();
  if (twist && ctx.oidc?.route === "token" && ctx.body?.id_token) ctx.body.id_token = twisted(ctx.body.id_token);
});

const callback = provider.callback();
server.on("request", async (request, response) => {
  const [, first, second] = new URL(request.url, issuer).pathname.split("/");
  const done = (status) => response.writeHead(status).end();
  try {
    if (request.method === "PUT" && first === "people") {
      people.set(second, JSON.parse(await bodyOf(request)));
      return done(204);
    }
    if (request.method === "PUT" && first === "twist") {
      twist = JSON.parse(await bodyOf(request));
      return done(204);
    }
    if (request.method === "GET" && first === "login") {
      response.setHeader("content-type", "text/html; charset=utf-8");
      return response.end(
        `<!doctype html><html lang="en"><title>Provider</title><link rel="icon" href="data:,"><form method="post"><label>Account <input name="account"></label> <button>Continue</button></form>`,
      );
    }
    if (request.method === "POST" && first === "login") {
      const account = new URLSearchParams(await bodyOf(request)).get("account");
      const result =
        account === "deny"
          ? { error: "access_denied", error_description: "<b>no</b>" }
          : { login: { accountId: account }, consent: {} };
      await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
      return;
    }
  } catch (error) {
    console.error(error);
    return done(500);
  }
  callback(request, response);
});

process.stdin.on("end", () => process.exit(0)).resume();
console.log(issuer);
