// The npm package oidc-provider as an issuer of others: one client, whose access tokens are JWTs for the audience `science`.
// Arguments: the folder that the package is installed in, and JSON with the port and the private keys.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, settings] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(createRequire(`${folder}/`).resolve('oidc-provider')).href);
const { port, keys } = JSON.parse(settings);

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'robot',
    client_secret: 'only-the-robot-knows',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256',
  }],
  jwks: { keys },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        scope: 'read',
        audience: 'science',
        accessTokenTTL: 600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});
provider.listen(port, '127.0.0.1', () => console.log('listening'));
