// A real authorization server on a port of 127.0.0.1 that nobody uses: oidc-provider,
// with the clients that test/t/238_oauth.pl logs in as. Node.js 18 or newer.
//
//   node server.mjs CONFIGURATION
//
// CONFIGURATION is a JSON object: clients (as oidc-provider takes them) and ttl, an
// object of lifetimes in seconds. It prints one line, a JSON object with the port, when
// it is ready, and ends when its standard input does.
//
// Beside the endpoints of the standards it has
//
//   GET /balance     a resource: {"balance": 7} to who has a good access token, or 401
//   GET /_issued     all tokens and device codes that it has given out, a JSON array
//   GET /_asked      how often each endpoint was asked, and by which grant type
//
// and it takes the grant type of RFC 7523, 2.1, which oidc-provider leaves to others:
// the assertion is verified by jose, against the client's keys.
import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const home = createRequire(`${process.env.OIDC_PROVIDER || process.cwd()}/package.json`);
const { default: Provider, errors } = await import(pathToFileURL(home.resolve('oidc-provider')));
const jose = await import(pathToFileURL(createRequire(home.resolve('oidc-provider')).resolve('jose')));

const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const given = JSON.parse(process.argv[2]);
const issued = [];
const asked = {};

const server = http.createServer();
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const issuer = `http://127.0.0.1:${server.address().port}`;

const key = await jose.generateKeyPair('RS256', { extractable: true });
const provider = new Provider(issuer, {
  clients: given.clients,
  jwks: { keys: [{ ...await jose.exportJWK(key.privateKey), alg: 'RS256', use: 'sig' }] },
  cookies: { keys: ['not a secret'] },
  features: {
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    devInteractions: { enabled: true },
  },
  clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
  scopes: ['openid', 'offline_access', 'billing.read'],
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  ttl: {
    AccessToken: 3600, ClientCredentials: 3600, DeviceCode: 600, RefreshToken: 86400, Grant: 86400, Session: 86400, Interaction: 600, IdToken: 600, ...given.ttl,
  },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});

provider.registerGrantType(JWT_BEARER, async (ctx, next) => {
  const { client, params } = ctx.oidc;
  try {
    await jose.jwtVerify(params.assertion, jose.createLocalJWKSet(client.jwks), {
      issuer: client.clientId, audience: `${issuer}/token`, algorithms: ['RS256', 'ES256'], requiredClaims: ['exp', 'iat', 'jti'], maxTokenAge: '1h',
    });
  } catch (error) {
    throw new errors.InvalidGrant(error.message);
  }
  const token = new provider.ClientCredentials({ client, scope: params.scope });
  ctx.body = { access_token: await token.save(), expires_in: token.expiration, token_type: 'Bearer', scope: token.scope };
  await next();
}, ['assertion', 'scope']);

provider.on('grant.success', (ctx) => issued.push(ctx.body.access_token, ctx.body.refresh_token));
provider.use(async (ctx, next) => {
  const place = ctx.path;
  if (place === '/balance') {
    const bearer = /^Bearer (.+)$/.exec(ctx.get('authorization'));
    const token = bearer && (await provider.AccessToken.find(bearer[1]) || await provider.ClientCredentials.find(bearer[1]));
    ctx.status = token ? 200 : 401;
    ctx.body = token ? { balance: 7 } : { error: { message: 'the token is not good' } };
    asked[`/balance ${ctx.status}`] = (asked[`/balance ${ctx.status}`] || 0) + 1;
    return;
  }
  if (place === '/_issued' || place === '/_asked') {
    ctx.body = place === '/_issued' ? issued.filter(Boolean) : asked;
    return;
  }
  await next();
  const what = [place, ctx.oidc?.params?.grant_type, ctx.status].filter(Boolean).join(' ');
  asked[what] = (asked[what] || 0) + 1;
  if (place === '/device/auth' && ctx.body?.device_code) issued.push(ctx.body.device_code);
});

server.on('request', provider.callback());
console.log(JSON.stringify({ port: server.address().port }));
process.stdin.on('end', () => process.exit(0)).resume();
