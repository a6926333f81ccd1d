// The official TypeScript clients log in: `node login.mjs ORDERS`.
//
// ORDERS is JSON as for `client.mjs`. The user of the browser, which has no window, agrees at once.
// After an `UnauthorizedError` the client is told with what the browser has come back, as its
// documentation asks of programs, and the step is done again; how often is part of what came of it.

const orders = JSON.parse(process.argv[2])
const is1 = orders.package === 'sdk'
const base = '@modelcontextprotocol'

const { Client } = is1
  ? await import(`${base}/sdk/client/index.js`)
  : await import(`${base}/client`)
const { StreamableHTTPClientTransport } = is1
  ? await import(`${base}/sdk/client/streamableHttp.js`)
  : await import(`${base}/client`)

let returned = null
let client_info, tokens, verifier, found

const provider = {
  redirectUrl: 'http://127.0.0.1:1/callback',
  clientMetadata: {
    client_name: orders.package,
    redirect_uris: ['http://127.0.0.1:1/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  },
  clientInformation: () => client_info,
  saveClientInformation: (given) => { client_info = given },
  tokens: () => tokens,
  saveTokens: (given) => { tokens = given },
  saveCodeVerifier: (given) => { verifier = given },
  codeVerifier: () => verifier,
  saveDiscoveryState: (given) => { found = given },
  discoveryState: () => found,
  async redirectToAuthorization(address) {
    const answer = await fetch(address, { redirect: 'manual' })
    returned = new URL(answer.headers.get('location')).searchParams
  },
}

let client, transport

async function connect() {
  const options = {}
  if (!is1 && orders.mode) options.versionNegotiation = { mode: orders.mode }
  client = new Client({ name: 'interop', version: '1' }, options)
  transport = new StreamableHTTPClientTransport(new URL(orders.url), { authProvider: provider })
  await client.connect(transport)
}

// Does something, and once more for each time that the browser has come back.
async function withLogin(act) {
  for (let logins = 0; ; logins++) {
    try {
      return { result: await act(), logins }
    } catch (error) {
      if (returned === null) return { error: String(error.message ?? error), logins }
      const back = returned
      returned = null
      await transport.finishAuth(is1 ? back.get('code') : back)
    }
  }
}

const call = (name) => withLogin(() => client.callTool({ name, arguments: {} }))

const steps = {
  connect: () => withLogin(connect),
  call: ({ tool }) => call(tool),
  async renewed({ count }) {
    const late = Date.now() + 40000
    let outcome
    do {
      await new Promise((go) => setTimeout(go, 100))
      outcome = await call('seen')
    } while (!(outcome.result?.structuredContent.renewals >= count) && Date.now() < late)
    return outcome
  },
}

const outcomes = []
for (const { do: name, ...step } of orders.steps) outcomes.push((await steps[name](step)) ?? null)
await client.close()
console.log(JSON.stringify(outcomes))
process.exit(0)
