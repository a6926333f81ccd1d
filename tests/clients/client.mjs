// The official TypeScript clients, doing what they are told: `node client.mjs ORDERS`.
//
// ORDERS is JSON: which package (`sdk` is @modelcontextprotocol/sdk 1.x, `client` is the 2.x package),
// the server's URL, the negotiation mode of the 2.x client, and steps. What came of each step is
// printed as a JSON list.

const orders = JSON.parse(process.argv[2])
const is1 = orders.package === 'sdk'
const base = '@modelcontextprotocol'

const { Client } = is1
  ? await import(`${base}/sdk/client/index.js`)
  : await import(`${base}/client`)
const { StreamableHTTPClientTransport } = is1
  ? await import(`${base}/sdk/client/streamableHttp.js`)
  : await import(`${base}/client`)
const types = is1 ? await import(`${base}/sdk/types.js`) : null

const logs = []
let changes = 0
let resumed = 0
const options = {
  capabilities: { elicitation: {} },
  listChanged: { tools: { autoRefresh: false, onChanged: () => changes++ } },
}
if (!is1 && orders.mode) options.versionNegotiation = { mode: orders.mode }
const client = new Client({ name: 'interop', version: '1' }, options)
client.setRequestHandler(is1 ? types.ElicitRequestSchema : 'elicitation/create', () => ({
  action: 'accept',
  content: { name: 'Ada' },
}))
client.setNotificationHandler(
  is1 ? types.LoggingMessageNotificationSchema : 'notifications/message',
  (message) => logs.push(message.params),
)

function settings(wanted, progress) {
  const abort = new AbortController()
  const made = { signal: abort.signal }
  if (wanted.timeout) made.timeout = wanted.timeout
  if (wanted.reset) made.resetTimeoutOnProgress = true
  if (wanted.progress || wanted.abortAfter)
    made.onprogress = (seen) => {
      progress.push(seen)
      if (progress.length === wanted.abortAfter) abort.abort('enough')
    }
  return made
}

function callTool(name, args, made) {
  const params = { name, arguments: args }
  return is1 ? client.callTool(params, undefined, made) : client.callTool(params, made)
}

const steps = {
  async tools() {
    return { tools: (await client.listTools()).tools }
  },
  async call({ tool, args = {}, ...wanted }) {
    const progress = []
    const begin = logs.length
    try {
      const result = await callTool(tool, args, settings(wanted, progress))
      return { result, progress, logs: logs.slice(begin), resumed }
    } catch (error) {
      return { error: String(error.message ?? error), code: error.code, progress }
    }
  },
  // As an agent would: as long as the answer is a handle, go on with it.
  async finish({ tool, args, ...wanted }) {
    let outcome = await steps.call({ tool, args, ...wanted })
    let waits = 0
    for (; outcome.result?.structuredContent?.state === 'working'; waits++) {
      const run_id = outcome.result.structuredContent.run_id
      outcome = await steps.call({ tool: 'continue_run', args: { run_id }, ...wanted })
    }
    return { ...outcome, waits }
  },
  async task({ tool, args, timeout }) {
    const seen = []
    const stream = client.experimental.tasks.callToolStream(
      { name: tool, arguments: args }, undefined, { timeout, task: { ttl: 60000 } },
    )
    for await (const message of stream) seen.push(message)
    return { kinds: seen.map((one) => one.type), result: seen.at(-1).result, last: seen.at(-1) }
  },
  // An abort is on its way when the call is over for the client.
  async stopped({ args }) {
    const late = Date.now() + 5000
    let outcome
    do outcome = await steps.call({ tool: 'count', args })
    while (!outcome.result.structuredContent.stopped && Date.now() < late)
    return outcome
  },
  async changed({ count }) {
    const late = Date.now() + 5000
    while (changes < count && Date.now() < late) await new Promise((go) => setTimeout(go, 10))
    return { changes }
  },
}

// The clients' own fetch, watched: how often they came back to a stream.
function watched(url, init) {
  if (new Headers(init?.headers).has('last-event-id')) resumed++
  return fetch(url, init)
}

const outcomes = []
await client.connect(new StreamableHTTPClientTransport(new URL(orders.url), { fetch: watched }))
for (const { do: name, ...step } of orders.steps) outcomes.push(await steps[name](step))
await client.close()
console.log(JSON.stringify(outcomes))
process.exit(0)
