// Verifies JSON Web Tokens with jose, which is nobody's we sign with.
//
// Reads a JSON array of objects from standard input: token, alg, and key, a public key
// in PEM, or for HS256 the secret. Prints a JSON array of objects: header and payload
// of each, or error.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const home = createRequire(`${process.env.OIDC_PROVIDER || process.cwd()}/package.json`);
const jose = await import(pathToFileURL(createRequire(home.resolve('oidc-provider')).resolve('jose')));

let input = '';
for await (const part of process.stdin) input += part;
const results = [];
for (const { token, alg, key } of JSON.parse(input)) {
  try {
    const good = alg === 'HS256' ? new TextEncoder().encode(key) : await jose.importSPKI(key, alg);
    const { protectedHeader, payload } = await jose.compactVerify(token, good, { algorithms: [alg] })
      .then(({ protectedHeader: header, payload: bytes }) => ({ protectedHeader: header, payload: JSON.parse(new TextDecoder().decode(bytes)) }));
    results.push({ header: protectedHeader, payload });
  } catch (error) {
    results.push({ error: error.message });
  }
}
console.log(JSON.stringify(results));
